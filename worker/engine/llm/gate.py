"""How many calls a process makes at once with one credential: all it likes, until the provider says that it is too many.

After a refusal the number follows what the provider takes, as TCP does: it is halved, and rises by one with each round of calls
that are answered. Whoever finds no place waits for one, inside the turn's limits, instead of being refused too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from worker.engine.failures import LLMOverloaded, LLMRateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engine.failures import TurnFailed

_PAUSE_SECONDS: Final = 1.0
"""After a refusal that does not say when to come back."""

_LONGEST_PAUSE_SECONDS: Final = 30.0

_FORGOTTEN_SECONDS: Final = 60.0
"""So long after a refusal, it says nothing any more about what the provider takes."""

_RECOVERED: Final = 2
"""When so many times as many calls as were refused are answered at once, the number is no longer limited."""


class CallGate:
    """Lets the calls with one credential pass. Belongs to one event loop.

    While nothing is refused, passing costs a comparison and a sum.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """Let everything pass, for now.

        Args:
            clock: Seconds that go on steadily; by default the event loop's.
        """
        self._clock = clock
        self._active = 0
        self._limit: float | None = None
        self._refused_at = 0
        self._closed_until = float("-inf")
        self._forgotten_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reopening: asyncio.TimerHandle | None = None

    @property
    def active(self) -> int:
        """How many calls are being answered."""
        return self._active

    @property
    def limit(self) -> int | None:
        """How many may be, at most; None while there is no limit."""
        return None if self._limit is None else int(self._limit)

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._waiting)

    async def enter(self, patience_seconds: float) -> None:
        """Take a place, waiting for one if need be. In the end, call `leave`.

        Raises:
            LLMRateLimited: There was none in time.
        """
        if self._limit is None or (not self._waiting and self._has_room()):
            self._active += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._let_in()
        try:
            async with asyncio.timeout(patience_seconds):
                await place
        except TimeoutError:
            self._give_up(place)
            raise LLMRateLimited(
                f"The provider limits the calls with this key, and for {patience_seconds:g} s there was no place for one "
                "more. It is tried again."
            ) from None
        except BaseException:
            self._give_up(place)
            raise

    def leave(self, failure: TurnFailed | None = None, *, answered: bool = False) -> None:
        """Give the place back.

        Args:
            failure: What became of the call, if it failed.
            answered: It was answered to the end.
        """
        self._active -= 1
        if isinstance(failure, (LLMRateLimited, LLMOverloaded)):
            self._narrow(failure.retry_after_seconds)
        elif answered and self._limit is not None:
            self._widen(self._limit)
        self._let_in()

    def _narrow(self, retry_after_seconds: float | None) -> None:
        now = self._now()
        # Calls that were refused together are one refusal.
        if now >= self._closed_until:
            self._refused_at = self._active + 1
            self._limit = max(1.0, min(self._limit or self._refused_at, self._refused_at) / 2)
        pause = _PAUSE_SECONDS if retry_after_seconds is None else min(retry_after_seconds, _LONGEST_PAUSE_SECONDS)
        self._closed_until = max(self._closed_until, now + pause)
        self._forgotten_at = self._closed_until + _FORGOTTEN_SECONDS

    def _widen(self, limit: float) -> None:
        widened = limit + 1 / limit
        self._limit = None if widened > _RECOVERED * self._refused_at else widened

    def _has_room(self) -> bool:
        now = self._now()
        if now >= self._forgotten_at:
            self._limit = None
        return self._limit is None or (self._active < int(self._limit) and now >= self._closed_until)

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._active += 1
        if self._reopening is not None:  # when that will be may have changed
            self._reopening.cancel()
            self._reopening = None
        if self._waiting:
            now = self._now()
            due = self._closed_until if now < self._closed_until else self._forgotten_at
            self._reopening = asyncio.get_running_loop().call_later(max(0.0, due - now), self._reopen)

    def _reopen(self) -> None:
        self._reopening = None
        self._let_in()

    def _give_up(self, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            self.leave()  # it was let in at the very moment
        elif place in self._waiting:
            self._waiting.remove(place)

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()
