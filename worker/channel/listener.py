"""What one listener has heard and not yet read."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from worker.channel.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may have been missed: read PostgreSQL again before going on.

    Attributes:
        reason: `reconnected`: Redis was out of reach for a while. `overflow`: the listener read too slowly and what it
            had not read was dropped. `unreadable`: a message for it could not be decoded. `changed`: what it listens to
            has no log of events, and is not any more as it was.
    """

    reason: Literal["reconnected", "overflow", "unreadable", "changed"]


class Listener:
    """An endless asynchronous iterator of events, in the order in which they arrived, for one reader.

    Events may arrive out of order, twice, and after a `Gap` again: order them, and drop what is known, by their
    sequence number. It ends when its subscriber is closed.
    """

    def __init__(self, *, buffer_size: int) -> None:
        """Start to hold back up to `buffer_size` unread events."""
        self._unread: deque[Envelope | Gap] = deque()
        self._buffer_size = buffer_size
        self._wakeup = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope | Gap:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._unread.popleft()

    def offer(self, envelope: Envelope) -> None:
        """Hand it an event; one too many for its buffer turns all of them into a gap."""
        if len(self._unread) >= self._buffer_size:
            self.mark_gap(Gap("overflow"))
            return
        self._unread.append(envelope)
        self._wakeup.set()

    def mark_gap(self, gap: Gap) -> None:
        """Tell it to read PostgreSQL again, which covers whatever it has not read yet."""
        self._unread.clear()
        self._unread.append(gap)
        self._wakeup.set()

    def close(self) -> None:
        """End the iteration once everything unread has been read."""
        self._closed = True
        self._wakeup.set()
