"""The LLM calls of one attempt: numbered, bounded, counted, and read along as pipecat reads them.

pipecat's services turn every failure into a frame and an empty reply, and of several tool calls in one reply they see
only the last (Anthropic) or the first of each chunk (OpenAI). So the client that a service is given is one of ours: it
makes the call with the provider's SDK, hands the events on, and keeps the reply, the usage and the exception itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from worker.engine.failures import LLMStreamBroken, LLMTimeout, TooManyLLMCalls, TurnFailed
from worker.engine.request import LLMCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.engine.llm.reply import Reply, ReplyReader


class LLMCalls:
    """Makes the LLM calls of one attempt.

    Args:
        processor: Name of the pipecat service, for the usage.
        model: The model's name, for the usage.
        limit: How many calls are allowed.
        silence_seconds: How long a provider may say nothing.
        classify: Makes a failure of an SDK's exception.
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
        classify: Callable[[Exception], TurnFailed],
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
            TurnFailed: The call is one too many, or the provider was silent.
            Exception: What the SDK raised. In every case `on_failure` has been told.
        """
        self._number += 1
        try:
            self._check_limit()
            source = await self.within_silence(opening())
        except Exception as error:
            self._fail(error)
            raise
        self._open = ReplyStream(source, reader, self, self._number)
        return self._open

    async def aclose(self) -> None:
        """Stop the call that is still being answered, if there is one."""
        if self._open is not None:
            await self._open.close()

    async def within_silence(self, waiting: Awaitable[Any]) -> Any:
        """Wait for the provider, but no longer than it may be silent.

        Raises:
            LLMTimeout: It was silent for too long.
        """
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await waiting
        except TimeoutError as error:
            raise LLMTimeout(
                f"{self._model} said nothing for {self._silence_seconds:g} s. Try again later; if this model is that slow "
                "by nature, raise TURN_WORKER_PROVIDER_TIMEOUT_SECONDS."
            ) from error

    def finished(self, number: int, reader: ReplyReader) -> None:
        """A stream came to its end, and the reply with it."""
        self._count(number, reader)
        self._reply = reader.reply()

    def broken(self, number: int, reader: ReplyReader, error: BaseException) -> None:
        """A stream was cut off, by the provider or by us."""
        self._count(number, reader)
        if isinstance(error, Exception):
            self._fail(error)

    def _check_limit(self) -> None:
        if self._number > self._limit:
            raise TooManyLLMCalls(
                f"The turn made {self._limit} LLM calls without coming to an end, so it was stopped. "
                "Look for a tool whose result makes the model call it again."
            )

    def _count(self, number: int, reader: ReplyReader) -> None:
        self._open = None
        self._on_end(LLMCall(number=number, processor=self._processor, model=self._model, usage=reader.usage))

    def _fail(self, error: Exception) -> None:
        self._on_failure(error if isinstance(error, TurnFailed) else self._classify(error))


class ReplyStream:
    """A provider's stream of events, read along. It closes what it reads from, however it ends."""

    def __init__(self, source: Any, reader: ReplyReader, calls: LLMCalls, number: int) -> None:
        self._source = source
        self._reader = reader
        self._calls = calls
        self._number = number
        self._over = False

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> Any:
        """The next event that pipecat is to see."""
        try:
            while True:
                event = await self._next_event()
                if self._reader.read(event):
                    return event
        except StopAsyncIteration:
            self._over = True
            self._calls.finished(self._number, self._reader)
            raise
        except BaseException as error:
            await self._cut_off(error)
            raise

    async def close(self) -> None:
        """Stop reading. What the reply used until now is counted."""
        await self._cut_off(asyncio.CancelledError())

    async def _next_event(self) -> Any:
        try:
            return await self._calls.within_silence(anext(self._source))
        except StopAsyncIteration:
            if not self._reader.complete:
                raise LLMStreamBroken("The provider broke off in the middle of its reply. Try again.") from None
            raise

    async def _cut_off(self, error: BaseException) -> None:
        if not self._over:
            self._over = True
            self._calls.broken(self._number, self._reader, error)
            await self._source.close()
