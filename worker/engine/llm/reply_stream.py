"""A provider's streamed reply on its way to pipecat, and the watch that notices when nothing more comes of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from worker.engine.failures import LLMStreamBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engine.llm.reply import ReplyReader

_END: Final = object()


class SilenceWatch:
    """Notices that nothing was heard for too long. Hearing something costs no more than reading the clock."""

    def __init__(self, seconds: float, on_silence: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_at(self._heard + seconds, self._look)

    def heard(self) -> None:
        """Something came."""
        self._heard = self._loop.time()

    def stop(self) -> None:
        """It is over; silence means nothing from now on."""
        self._timer.cancel()

    def _look(self) -> None:
        due = self._heard + self._seconds
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._on_silence()


class ReplyStream:
    """A provider's stream of events, read along. It closes what it reads from, however it ends.

    Args:
        source: What the SDK returned.
        reader: Reads the events along.
        watch: Hears every event.
        on_words: Told of every event that pipecat is to see.
        on_finished: Told when the reply came to its end.
        on_cut_off: Told why when it was cut off, by the provider or by us.
    """

    def __init__(
        self,
        source: Any,
        reader: ReplyReader,
        watch: SilenceWatch,
        *,
        on_words: Callable[[], None],
        on_finished: Callable[[], None],
        on_cut_off: Callable[[BaseException], None],
    ) -> None:
        self._source = source
        self._reader = reader
        self._watch = watch
        self._on_words = on_words
        self._on_finished = on_finished
        self._on_cut_off = on_cut_off
        self._over = False

    def __aiter__(self) -> ReplyStream:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __anext__(self) -> Any:
        """The next event that pipecat is to see."""
        try:
            while True:
                event = await anext(self._source, _END)
                self._watch.heard()
                if event is _END:
                    break
                if self._reader.read(event):
                    self._on_words()
                    return event
            self._check_complete()
        except BaseException as error:
            await self._cut_off(error)
            raise
        self._over = True
        self._watch.stop()
        self._on_finished()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Stop reading. What the reply used until now is counted."""
        await self._cut_off(asyncio.CancelledError())

    def _check_complete(self) -> None:
        if not self._reader.complete:
            raise LLMStreamBroken("The provider broke off in the middle of its reply. Try again.")

    async def _cut_off(self, error: BaseException) -> None:
        if not self._over:
            self._over = True
            self._watch.stop()
            self._on_cut_off(error)
            await self._source.close()
