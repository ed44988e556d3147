"""The LLM calls of one attempt: numbered, bounded, counted, and read along as pipecat reads them.

pipecat's services turn every failure into a frame and an empty reply, and of several tool calls in one reply they see
only the last (Anthropic) or the first of each chunk (OpenAI). So the client that a service is given is one of ours: it
makes the call with the provider's SDK, hands the events on, and keeps the reply, the usage and the exception itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from worker.engine.failures import LLMStreamBroken, LLMTimeout, TooManyLLMCalls, TurnFailed
from worker.engine.request import LLMCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.engine.llm.reply import Reply, ReplyReader

_END: Final = object()


class LLMCalls:
    """Makes the LLM calls of one attempt.

    Args:
        processor: Name of the pipecat service, for the usage.
        model: The model's name, for the usage.
        limit: How many calls are allowed.
        silence_seconds: How long a provider may say nothing.
        classify: Makes a failure of an SDK's exception, given whether the reply had begun.
        on_end: Told of each call that the provider answered, when it ends.
        on_failure: Told of the failure of a call, at once.
    """

    def __init__(
        self,
        *,
        processor: str,
        model: str,
        limit: int,
        silence_seconds: float,
        classify: Callable[[Exception, bool], TurnFailed],
        on_end: Callable[[LLMCall], None],
        on_failure: Callable[[TurnFailed], None],
    ) -> None:
        self._processor = processor
        self._model = model
        self._limit = limit
        self._silence_seconds = silence_seconds
        self._classify = classify
        self._on_end = on_end
        self._on_failure = on_failure
        self._number = 0
        self._reply: Reply | None = None
        self._open: ReplyStream | None = None

    @property
    def number(self) -> int:
        """How many calls were made so far, which is also the number of the last one."""
        return self._number

    def take_reply(self) -> Reply | None:
        """The reply of the call that ended last, once; None when it failed."""
        reply, self._reply = self._reply, None
        return reply

    async def stream(self, opening: Callable[[], Awaitable[Any]], reader: ReplyReader) -> ReplyStream:
        """Begin a streamed call.

        Args:
            opening: Sends the request with the SDK and returns its stream of events.
            reader: Reads the events along.

        Raises:
            TooManyLLMCalls: The call is one too many.
            Exception: What the SDK raised. In every case `on_failure` has been told.
        """
        self._number += 1
        watch = SilenceWatch(self._silence_seconds, self._too_silent)
        try:
            self._check_limit()
            source = await opening()
        except BaseException as error:
            watch.stop()
            self._fail(error, replying=False)
            raise
        self._open = ReplyStream(source, reader, watch, self)
        return self._open

    async def aclose(self) -> None:
        """Stop the call that is still being answered, if there is one."""
        if self._open is not None:
            await self._open.close()

    def finished(self, reader: ReplyReader) -> None:
        """The reply came to its end."""
        reply = reader.reply()
        self._count(reader, calls_tools=bool(reply.tool_calls))
        self._reply = reply

    def broken(self, reader: ReplyReader, error: BaseException) -> None:
        """The reply was cut off, by the provider or by us."""
        self._count(reader, calls_tools=False)
        self._fail(error, replying=True)

    def _check_limit(self) -> None:
        if self._number > self._limit:
            raise TooManyLLMCalls(
                f"The turn made {self._limit} LLM calls without coming to an end, so it was stopped. "
                "Look for a tool whose result makes the model call it again."
            )

    def _count(self, reader: ReplyReader, *, calls_tools: bool) -> None:
        self._open = None
        self._on_end(
            LLMCall(
                number=self._number,
                processor=self._processor,
                model=self._model,
                usage=reader.usage,
                calls_tools=calls_tools,
            )
        )

    def _fail(self, error: BaseException, *, replying: bool) -> None:
        if isinstance(error, TurnFailed):
            self._on_failure(error)
        elif isinstance(error, Exception):
            self._on_failure(self._classify(error, replying))

    def _too_silent(self) -> None:
        """Fail the turn, which stops the call: pipecat, which waits for it, need not know why."""
        self._on_failure(
            LLMTimeout(
                f"{self._model} said nothing for {self._silence_seconds:g} s. Try again later; if it is that slow by "
                "nature, raise TURN_WORKER_PROVIDER_TIMEOUT_SECONDS."
            )
        )


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
    """A provider's stream of events, read along. It closes what it reads from, however it ends."""

    def __init__(self, source: Any, reader: ReplyReader, watch: SilenceWatch, calls: LLMCalls) -> None:
        self._source = source
        self._reader = reader
        self._watch = watch
        self._calls = calls
        self._over = False

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> Any:
        """The next event that pipecat is to see."""
        try:
            while True:
                event = await anext(self._source, _END)
                self._watch.heard()
                if event is _END:
                    break
                if self._reader.read(event):
                    return event
            self._check_complete()
        except BaseException as error:
            await self._cut_off(error)
            raise
        self._over = True
        self._watch.stop()
        self._calls.finished(self._reader)
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
            self._calls.broken(self._reader, error)
            await self._source.close()
