"""The LLM calls of one attempt: numbered, bounded, counted, and read along as pipecat reads them.

Most are the conversation's. Side questions (see `worker.engine.side_question`) go the same way and are counted the same,
but their replies and failures are their asker's and never the conversation's.

pipecat's services turn every failure into a frame and an empty reply, and of several tool calls in one reply they see
only the last (Anthropic) or the first of each chunk (OpenAI). So the client that a service is given is one of ours: it
makes the call with the provider's SDK, hands the events on, and keeps the reply, the usage and the exception itself.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from worker.engine.failures import LLMReplyCutShort, LLMTimeout, TooManyLLMCalls, TurnFailed
from worker.engine.llm.gate import CallGate
from worker.engine.llm.reply_stream import ReplyStream, SilenceWatch
from worker.engine.request import LLMCall
from worker.telemetry import observed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from worker.engine.llm.reply import Reply, ReplyReader
    from worker.telemetry.observed import LLMCallObserved

CONVERSATION: Final = "conversation"
SIDE_QUESTION: Final = "side_question"
"""What a call was for, as the ledger of usage keeps it; a side question whose asker says no more."""

_asked_for: ContextVar[str] = ContextVar("asked_for", default=SIDE_QUESTION)


@contextmanager
def asking_for(purpose: str) -> Iterator[None]:
    """Let the side questions asked inside be kept under this purpose: pipecat's services, in between, hand on none."""
    marked = _asked_for.set(purpose)
    try:
        yield
    finally:
        _asked_for.reset(marked)


class LLMCalls:
    """Makes the LLM calls of one attempt.

    Args:
        provider: Name of the provider, for spans and metrics.
        processor: Name of the pipecat service, for the usage.
        model: The model's name, for the usage.
        limit: How many calls the conversation is allowed.
        silence_seconds: How long a provider may say nothing.
        classify: Makes a failure of an SDK's exception, given whether the reply had begun.
        on_end: Told of each call that the provider answered, when it ends.
        on_failure: Told of the failure of a call of the conversation, at once.
        made: How many replies the turn has had before, in attempts that this one goes on from or with another model.
        numbers: Numbers the calls, over all models that the attempt tries.
        gate: Where calls wait while the provider refuses more of them; by default they pass.
    """

    def __init__(
        self,
        *,
        provider: str,
        processor: str,
        model: str,
        limit: int,
        silence_seconds: float,
        classify: Callable[[Exception, bool], TurnFailed],
        on_end: Callable[[LLMCall], None],
        on_failure: Callable[[TurnFailed], None],
        made: int = 0,
        numbers: Iterator[int] | None = None,
        gate: CallGate | None = None,
    ) -> None:
        self._provider = provider
        self._processor = processor
        self._model = model
        self._limit = limit
        self._silence_seconds = silence_seconds
        self._classify = classify
        self._on_end = on_end
        self._on_failure = on_failure
        self._numbers = numbers or count(1)
        self._gate = gate or CallGate()
        self._replies = made
        self._replies_taken = made
        self._reply: Reply | None = None
        self._open: ReplyStream | None = None

    @property
    def reply_number(self) -> int:
        """How many replies the conversation was asked for so far. Side questions do not count, so that it is the same
        whenever the turn is run again.
        """
        return self._replies

    @property
    def replies_taken(self) -> int:
        """How many replies of the turn have come to their end."""
        return self._replies_taken

    def take_reply(self) -> Reply | None:
        """The reply of the call that ended last, once; None when it failed."""
        reply, self._reply = self._reply, None
        return reply

    async def stream(
        self, send: Callable[..., Awaitable[Any]], request: Mapping[str, Any], reader: ReplyReader
    ) -> ReplyStream:
        """Begin a streamed call of the conversation.

        Args:
            send: The SDK's method, which takes the request and returns its stream of events.
            request: The request, by the provider's names.
            reader: Reads the events along.

        Raises:
            TooManyLLMCalls: The call is one too many.
            Exception: What the SDK raised. In every case `on_failure` has been told.
        """
        number = self._next_number()
        self._replies += 1
        call = self._observe(request, CONVERSATION)
        try:
            self._check_limit()
            await self._gate.enter(self._silence_seconds)
        except BaseException as error:
            self._fail(call, error, replying=False)
            raise
        watch = SilenceWatch(self._silence_seconds, lambda: self._too_silent(call))
        try:
            source = await send(**request)
        except BaseException as error:
            watch.stop()
            self._gate.leave(self._fail(call, error, replying=False))
            raise

        def finished() -> None:
            self._open = None
            self._gate.leave(answered=True)
            reply = reader.reply()
            self._count(number, reader, call, CONVERSATION, turn_goes_on=bool(reply.tool_calls))
            call.ended(reply.message)
            self._reply = reply
            self._replies_taken = self._replies

        def cut_off(error: BaseException) -> None:
            self._open = None
            self._count(number, reader, call, CONVERSATION, turn_goes_on=False)
            self._gate.leave(self._fail(call, error, replying=True))

        self._open = ReplyStream(source, reader, watch, on_words=call.replies, on_finished=finished, on_cut_off=cut_off)
        return self._open

    async def ask(self, send: Callable[..., Awaitable[Any]], request: Mapping[str, Any], reader: ReplyReader) -> Reply:
        """Make a call beside the conversation, to its end.

        Args:
            send: The SDK's method, which takes the request and returns its stream of events.
            request: The request, by the provider's names.
            reader: Reads the events.

        Raises:
            TurnFailed: The call failed, or its reply is not whole. Nobody else is told.
        """
        purpose = _asked_for.get()
        call = self._observe(request, purpose)
        try:
            await self._gate.enter(self._silence_seconds)
            try:
                reply = await self._answer(send, request, reader, call, purpose)
            except BaseException as error:
                self._gate.leave(error if isinstance(error, TurnFailed) else None)
                raise
        except BaseException as error:
            self._note_failure(call, error)
            raise
        self._gate.leave(answered=True)
        call.ended(reply.message)
        return reply

    async def _answer(
        self,
        send: Callable[..., Awaitable[Any]],
        request: Mapping[str, Any],
        reader: ReplyReader,
        call: LLMCallObserved,
        purpose: str,
    ) -> Reply:
        number = self._next_number()
        replying = False

        def ended(_: BaseException | None = None) -> None:
            self._count(number, reader, call, purpose, turn_goes_on=True)

        try:
            async with asyncio.timeout(None) as silence:
                loop = asyncio.get_running_loop()
                watch = SilenceWatch(self._silence_seconds, lambda: silence.reschedule(loop.time()))
                try:
                    source = await send(**request)
                    replying = True
                    stream = ReplyStream(
                        source, reader, watch, on_words=call.replies, on_finished=ended, on_cut_off=ended
                    )
                    async for _ in stream:
                        pass
                finally:
                    watch.stop()
        except TurnFailed:
            raise
        except TimeoutError as error:
            raise (self._silence() if silence.expired() else self._classify(error, replying)) from error
        except Exception as error:
            raise self._classify(error, replying) from error
        reply = reader.reply()
        if reply.early_stop is not None:
            raise LLMReplyCutShort(f"{self._model} stopped before its answer was whole: {reply.early_stop.reason}.")
        return reply

    async def aclose(self) -> None:
        """Stop the call that is still being answered, if there is one."""
        if self._open is not None:
            await self._open.close()

    def _next_number(self) -> int:
        return next(self._numbers)

    def _check_limit(self) -> None:
        if self._replies > self._limit:
            raise TooManyLLMCalls(
                f"The turn made {self._limit} LLM calls without coming to an end, so it was stopped. "
                "Look for a tool whose result makes the model call it again."
            )

    def _observe(self, request: Mapping[str, Any], purpose: str) -> LLMCallObserved:
        call = observed.llm_call(self._provider, self._model, purpose)
        call.asks(request.get("system"), request.get("messages"))
        return call

    def _count(
        self, number: int, reader: ReplyReader, call: LLMCallObserved, purpose: str, *, turn_goes_on: bool
    ) -> None:
        usage = reader.usage
        call.used(
            prompt=usage.total_tokens - usage.completion_tokens,
            output=usage.completion_tokens,
            cache_read=usage.cache_read_input_tokens,
            cache_creation=usage.cache_creation_input_tokens,
        )
        self._on_end(
            LLMCall(
                number=number,
                processor=self._processor,
                model=self._model,
                usage=usage,
                turn_goes_on=turn_goes_on,
                purpose=purpose,
            )
        )

    def _fail(self, call: LLMCallObserved, error: BaseException, *, replying: bool) -> TurnFailed | None:
        if isinstance(error, Exception) and not isinstance(error, TurnFailed):
            error = self._classify(error, replying)
        self._note_failure(call, error)
        if not isinstance(error, TurnFailed):
            return None
        self._on_failure(error)
        return error

    def _note_failure(self, call: LLMCallObserved, error: BaseException) -> None:
        if isinstance(error, TurnFailed):
            call.failed(error.code, str(error))
        else:
            call.failed(observed.CANCELLED, "")
        call.ended()

    def _too_silent(self, call: LLMCallObserved) -> None:
        """Fail the turn, which stops the call: pipecat, which waits for it, need not know why."""
        failure = self._silence()
        call.failed(failure.code, str(failure))
        self._on_failure(failure)

    def _silence(self) -> LLMTimeout:
        return LLMTimeout(
            f"{self._model} said nothing for {self._silence_seconds:g} s. Try again later; if it is that slow by "
            "nature, raise TURN_WORKER_PROVIDER_TIMEOUT_SECONDS."
        )
