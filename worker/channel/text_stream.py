"""The text of running turns, on one capped and expiring Redis stream per turn.

It is news of the most fleeting kind: whoever reads along sees it early, and the turn's own record has it in any case. So
nothing waits for it, nothing is written for a turn that ends before a reader could notice, and what Redis does not take is
dropped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

from worker.channel.connection import TIMEOUT_SECONDS, connect
from worker.telemetry import names

if TYPE_CHECKING:
    from uuid import UUID

log = structlog.get_logger(__name__)

FLUSH_SECONDS: Final = 0.05
"""How long words are collected, and how long a turn is silent at the least."""

MAX_ENTRIES: Final = 4096
"""About how many entries a stream keeps: at one per flush, more than three minutes of talk without a pause."""

RUNNING_TTL_SECONDS: Final = 600
"""How long a stream is kept after its last entry: longer than the longest pause between two attempts."""

ENDED_TTL_SECONDS: Final = 60
"""How long a stream is kept after its turn has ended, for readers that are a little behind."""

_PAUSE_AFTER_FAILURE_SECONDS: Final = 1.0


def text_key(organization_id: UUID, turn_id: UUID) -> str:
    """Where a turn's text is."""
    return f"turns.text.{organization_id}.{turn_id}"


@dataclass(slots=True, eq=False)
class _Piece:
    """Text from an offset on; None for a mark that all beyond the offset is void."""

    offset: int
    text: str | None


@dataclass(slots=True, eq=False)
class TextStream:
    """The stream of one attempt; this is the engine's `TextSink`. All methods return at once and raise nothing."""

    streams: TextStreams
    key: str
    attempt: int
    due: float = 0.0
    shown: bool = False
    pieces: list[_Piece] = field(default_factory=list)

    def begin(self, offset: int) -> None:
        """Let readers know that what an earlier attempt passed on beyond this offset is void."""
        if self.attempt > 1:
            self._add(_Piece(offset, None))

    def write(self, offset: int, text: str) -> None:
        """From this offset on the text is this."""
        last = self.pieces[-1] if self.pieces else None
        if not text:
            self._add(_Piece(offset, None))
        elif last is not None and last.text is not None and last.offset + len(last.text) == offset:
            last.text += text
        else:
            self._add(_Piece(offset, text))

    def end(self, *, final: bool) -> None:
        """The attempt is over: what was not sent yet is in the turn's record, or void. `final`: so is the turn."""
        self.pieces.clear()
        self.streams.forget(self, final=final)

    def _add(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.streams.schedule(self)


class TextStreams:
    """The writer of one process and event loop: everything that is due goes to Redis in one round trip."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url, name="turn-worker-text", max_connections=1, retries=0)
        self._talking: dict[TextStream, None] = {}
        self._ended: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False

    def of(self, organization_id: UUID, turn_id: UUID, attempt: int) -> TextStream:
        """The stream of one attempt. Nothing is written yet."""
        return TextStream(self, text_key(organization_id, turn_id), attempt)

    def schedule(self, stream: TextStream) -> None:
        """See to it that what a stream has is sent soon."""
        if stream not in self._talking:
            stream.due = asyncio.get_running_loop().time() + FLUSH_SECONDS
            self._talking[stream] = None
        self._wait()

    def forget(self, stream: TextStream, *, final: bool) -> None:
        """The attempt of a stream is over."""
        self._talking.pop(stream, None)
        if final and stream.shown:
            self._ended.append(stream.key)
            self._wait()

    async def close(self) -> None:
        """Send nothing more and close the connection."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self._redis.aclose()

    def _wait(self, seconds: float = FLUSH_SECONDS) -> None:
        if self._timer is None and self._flushing is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        pause = FLUSH_SECONDS
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._send()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning(names.TEXT_DROPPED, error=str(error))
            pause = _PAUSE_AFTER_FAILURE_SECONDS
        finally:
            self._flushing = None
        if self._talking or self._ended:
            self._wait(pause)

    async def _send(self) -> None:
        """Take what is due and send it. Whatever becomes of that, it is not sent again."""
        now = asyncio.get_running_loop().time()
        pipeline = self._redis.pipeline(transaction=False)
        for stream in [stream for stream in self._talking if stream.due <= now]:
            del self._talking[stream]
            stream.shown = True
            for piece in stream.pieces:
                entry: dict[Any, Any] = {"attempt": stream.attempt, "offset": piece.offset}
                if piece.text is not None:
                    entry["text"] = piece.text.encode("utf-8", "replace")
                pipeline.xadd(stream.key, entry, maxlen=MAX_ENTRIES, approximate=True)
            stream.pieces.clear()
            pipeline.expire(stream.key, RUNNING_TTL_SECONDS)
        ended, self._ended = self._ended, []
        for key in ended:
            pipeline.expire(key, ENDED_TTL_SECONDS)
        if len(pipeline):
            await pipeline.execute()
