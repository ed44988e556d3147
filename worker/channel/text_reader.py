"""Reading along: the text of running turns, for any number of readers over one blocking connection."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

import structlog
from redis.backoff import EqualJitterBackoff
from redis.exceptions import RedisError

from worker.channel.connection import TIMEOUT_SECONDS, connect
from worker.channel.text_stream import text_key
from worker.telemetry import names
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from uuid import UUID

    from redis.asyncio import Redis

_log = structlog.get_logger(__name__)

BEGINNING: Final = "0-0"
"""The place before a stream's first entry."""

_BLOCK_MILLISECONDS: Final = 1000
"""How long Redis may let a read wait: less than the connection takes for a sign of death."""

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
_WAKE_TTL_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEntry:
    """One entry of a turn's text.

    Attributes:
        id: Its place in the stream.
        attempt: The attempt that wrote it. What an earlier one writes after it is void.
        offset: Where in the turn's text it begins. Whatever was beyond that is void.
        text: The text from there on; None where there is nothing but that mark.
    """

    id: str
    attempt: int
    offset: int
    text: str | None


class TextListener:
    """An endless asynchronous iterator of the entries of one turn, from a place on. It ends when its reader is closed."""

    def __init__(self, after: str) -> None:
        self.last = _place(after)
        self._entries: asyncio.Queue[TextEntry | None] = asyncio.Queue()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TextEntry:
        entry = await self._entries.get()
        if entry is None:
            raise StopAsyncIteration
        return entry

    def offer(self, entry: TextEntry) -> None:
        """Hand it an entry; one that it has is dropped."""
        if _place(entry.id) > self.last:
            self.last = _place(entry.id)
            self._entries.put_nowait(entry)

    def close(self) -> None:
        """End the iteration behind what is there."""
        self._entries.put_nowait(None)


@dataclass(slots=True)
class _Followed:
    """A stream that is read, and who wants it."""

    after: str
    listeners: set[TextListener] = field(default_factory=set)


class TextReader:
    """Follows the streams that somebody wants to read, with one connection for this process and event loop.

    Nothing is asked of Redis while nobody reads. When Redis goes away it connects again and reads on where it was.
    """

    def __init__(self, redis_url: str) -> None:
        """Prepare to read; nothing is connected yet."""
        self._redis_url = redis_url
        self._streams: dict[str, _Followed] = {}
        self._wanted = asyncio.Event()
        # Whoever begins to listen writes here, on which the reading connection waits too.
        self._wake_key = f"turns.text.wake.{uuid4()}"
        self._woken = BEGINNING
        self._waker = connect(redis_url, name="turn-worker-text-wake", max_connections=1, retries=1)
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listen(
        self, *, organization_id: UUID, turn_id: UUID, after: str = BEGINNING
    ) -> AsyncGenerator[TextListener]:
        """Read a turn's text for as long as the context is open: what there is behind `after`, then what comes."""
        key = text_key(organization_id, turn_id)
        listener = TextListener(after)
        followed = self._streams.setdefault(key, _Followed(after))
        followed.after = min(followed.after, after, key=_place)
        followed.listeners.add(listener)
        await self._wake()
        try:
            yield listener
        finally:
            followed.listeners.discard(listener)
            if not followed.listeners and self._streams.get(key) is followed:
                del self._streams[key]

    async def erase(self, *, organization_id: UUID, turn_ids: Sequence[UUID]) -> None:
        """Delete what was said in these turns. If Redis is away, it expires there by itself."""
        if not turn_ids:
            return
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._waker.delete(*(text_key(organization_id, turn_id) for turn_id in turn_ids))
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning(names.TEXT_NOT_ERASED, error=mask_secrets(str(error)))

    async def close(self) -> None:
        """Stop reading. Listeners can still read what they were given, and then end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for followed in self._streams.values():
            for listener in followed.listeners:
                listener.close()
        await self._waker.aclose()

    async def _wake(self) -> None:
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._stay_reading(), name="text-reader")
            return
        with suppress(RedisError, OSError):  # then the reading connection is not well either, and will begin anew
            pipeline = self._waker.pipeline(transaction=False)
            pipeline.xadd(self._wake_key, {"listen": 1}, maxlen=1)
            pipeline.expire(self._wake_key, _WAKE_TTL_SECONDS)
            await pipeline.execute()

    async def _stay_reading(self) -> None:
        backoff = EqualJitterBackoff(base=_FIRST_PAUSE_SECONDS, cap=_LONGEST_PAUSE_SECONDS)
        failures = 0
        while True:
            if not self._streams:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                client = connect(self._redis_url, name="turn-worker-text-reader", max_connections=1, retries=0)
                async with client:
                    while self._streams:
                        await self._read(client)
                        failures = 0
            except (RedisError, OSError) as error:
                if failures == 0:
                    _log.warning(names.CHANNEL_LOST, error=str(error))
                failures += 1
                await asyncio.sleep(backoff.compute(failures))

    async def _read(self, client: Redis) -> None:
        asked: dict[Any, Any] = {key: followed.after for key, followed in self._streams.items()}
        answer = await client.xread({**asked, self._wake_key: self._woken}, block=_BLOCK_MILLISECONDS)
        for name, entries in answer:
            key, last = name.decode(), entries[-1][0].decode()
            followed = self._streams.get(key)
            if key == self._wake_key:
                self._woken = last
            elif followed is not None:
                for entry in _entries(entries):
                    for listener in followed.listeners:
                        # One that came meanwhile, from further back, gets all of it in its order next time.
                        if listener.last >= _place(asked[key]):
                            listener.offer(entry)
                if followed.after == asked[key]:  # else somebody came meanwhile who wants to read from further back
                    followed.after = last


def _entries(raw: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[TextEntry]:
    for id_, fields in raw:
        with suppress(KeyError, ValueError):  # somebody else wrote that
            text = fields.get(b"text")
            yield TextEntry(
                id=id_.decode(),
                attempt=int(fields[b"attempt"]),
                offset=int(fields[b"offset"]),
                text=None if text is None else text.decode("utf-8", "replace"),
            )


def _place(id_: str) -> Any:
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number or 0)
