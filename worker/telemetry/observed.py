"""What the code of a turn says of itself, to the spans and the metrics alike. Where nobody listens, it costs next to nothing."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal

from worker.errors import TurnWorkerError
from worker.telemetry import signals, tracing
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.telemetry.metrics import Metrics
    from worker.telemetry.tracing import Attribute, Span

CANCELLED: Final = "cancelled"
"""The `error.type` of what was stopped from outside: the turn was called off, or its worker lost it."""


_PROVIDER_NAMES: Final[Mapping[str, str]] = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "openai-responses": "openai",
    "xai": "x_ai",
}
"""Providers that have another name in the GenAI conventions than in a configuration:
https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/#gen-ai-provider-name."""


class TurnObserved:
    """One attempt at a turn, as it is being observed.

    Attributes:
        span: Its span.
        metrics: What counts it; None for nothing.
        error: The code of what went wrong.
    """

    def __init__(self, span: Span, metrics: Metrics | None) -> None:
        self.span = span
        self.metrics = metrics
        self.error: str | None = None
        self._outcome = "defect"
        self._began = time.perf_counter()

    def ended(self, outcome: str) -> None:
        """It ended so: a word of `turn.outcome`."""
        self._outcome = outcome
        self.span.set(signals.TURN_OUTCOME, outcome)

    def count(self) -> None:
        """It is over: the metrics get it."""
        if self.metrics is not None:
            self.metrics.turn_ended(self._outcome, time.perf_counter() - self._began, self.error)


_turn: ContextVar[TurnObserved | None] = ContextVar("turn_observed", default=None)

NOBODY: Final = TurnObserved(tracing.NO_SPAN, None)
"""An attempt that nobody observes."""


@contextmanager
def observing(turn: TurnObserved) -> Iterator[TurnObserved]:
    """Let everything that is done inside be part of this attempt."""
    marked = _turn.set(turn)
    try:
        yield turn
    finally:
        _turn.reset(marked)
        turn.count()


def turn_failed(code: str, message: str) -> None:
    """The attempt we are in came to nothing."""
    turn = _turn.get()
    if turn is not None:
        turn.error = turn.error or code
        turn.span.fail(code, message)


class LLMCallObserved:
    """An LLM call that nobody observes, and what can be said of one."""

    def asks(self, system: object, messages: object) -> None:
        """What the model is asked. Told to nobody unless the operator wants content in traces."""

    def replies(self) -> None:
        """The first text or tool call has come. Further calls do nothing."""

    def used(self, *, prompt: int, output: int, cache_read: int, cache_creation: int) -> None:
        """The tokens it used; `prompt` is all of the input, whatever the cache held or took of it."""

    def failed(self, code: str, message: str) -> None:
        """It came to nothing. The first failure counts."""

    def ended(self, reply: object = None) -> None:
        """It is over, with this reply if it has one."""


_UNOBSERVED: Final = LLMCallObserved()


class _RecordedCall(LLMCallObserved):
    def __init__(self, metrics: Metrics | None, provider: str, model: str, purpose: str) -> None:
        self._metrics = metrics
        self._provider = provider
        self._model = model
        self._error: str | None = None
        self._replied = False
        self._ended = False
        self._began = time.perf_counter()
        self._span = tracing.open_span(
            f"{signals.SPAN_CHAT} {model}",
            kind="client",
            attributes={
                signals.GEN_AI_OPERATION_NAME: signals.SPAN_CHAT,
                signals.GEN_AI_PROVIDER_NAME: provider,
                signals.GEN_AI_REQUEST_MODEL: model,
                signals.GEN_AI_REQUEST_STREAM: True,
                signals.LLM_PURPOSE: purpose,
            },
        )

    def asks(self, system: object, messages: object) -> None:
        if tracing.with_content():
            if system:
                self._span.set(signals.GEN_AI_SYSTEM_INSTRUCTIONS, content(system))
            self._span.set(signals.GEN_AI_INPUT_MESSAGES, content(messages))

    def replies(self) -> None:
        if not self._replied:
            self._replied = True
            seconds = time.perf_counter() - self._began
            self._span.set(signals.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, seconds)
            if self._metrics is not None:
                self._metrics.llm_began_to_reply(self._provider, self._model, seconds)

    def used(self, *, prompt: int, output: int, cache_read: int, cache_creation: int) -> None:
        self._span.set(signals.GEN_AI_USAGE_INPUT_TOKENS, prompt)
        self._span.set(signals.GEN_AI_USAGE_OUTPUT_TOKENS, output)
        self._span.set(signals.GEN_AI_USAGE_CACHE_READ, cache_read)
        self._span.set(signals.GEN_AI_USAGE_CACHE_CREATION, cache_creation)
        if self._metrics is not None:
            tokens = {"input": prompt, "output": output, "cache_read": cache_read, "cache_creation": cache_creation}
            self._metrics.llm_used(self._provider, self._model, tokens)

    def failed(self, code: str, message: str) -> None:
        self._error = self._error or code
        self._span.fail(code, message)

    def ended(self, reply: object = None) -> None:
        if self._ended:
            return
        self._ended = True
        if reply is not None and tracing.with_content():
            self._span.set(signals.GEN_AI_OUTPUT_MESSAGES, content([reply]))
        self._span.end()
        if self._metrics is not None:
            self._metrics.llm_call_ended(self._provider, self._model, time.perf_counter() - self._began, self._error)


def llm_call(provider: str, model: str, purpose: str) -> LLMCallObserved:
    """An LLM call begins; whoever gets this says how it goes on."""
    turn = _turn.get()
    if turn is None:
        return _UNOBSERVED
    return _RecordedCall(turn.metrics, _PROVIDER_NAMES.get(provider, provider), model, purpose)


class ToolCallObserved:
    """A tool call that nobody observes, and what can be said of one."""

    def failed(self, code: str) -> None:
        """It came to nothing; the model gets a result that says so."""

    def returned(self, result: object) -> None:
        """What the model sees of it. Told to nobody unless the operator wants content in traces."""


class _RecordedTool(ToolCallObserved):
    def __init__(self, span: Span) -> None:
        self.error: str | None = None
        self._span = span

    def failed(self, code: str) -> None:
        self.error = self.error or code
        self._span.fail(code)

    def returned(self, result: object) -> None:
        if tracing.with_content():
            self._span.set(signals.GEN_AI_TOOL_CALL_RESULT, content(result))


_UNOBSERVED_TOOL: Final = ToolCallObserved()


@contextmanager
def tool_call(
    name: str, call_id: str, *, kind: Literal["tool", "transition"], arguments: object
) -> Iterator[ToolCallObserved]:
    """A tool runs inside, or a transition is followed."""
    turn = _turn.get()
    if turn is None:
        yield _UNOBSERVED_TOOL
        return
    attributes: dict[str, Attribute] = {
        signals.GEN_AI_OPERATION_NAME: signals.SPAN_EXECUTE_TOOL,
        signals.GEN_AI_TOOL_NAME: name,
        signals.GEN_AI_TOOL_CALL_ID: call_id,
        signals.TOOL_KIND: kind,
    }
    if tracing.with_content():
        attributes[signals.GEN_AI_TOOL_CALL_ARGUMENTS] = content(arguments)
    began = time.perf_counter()
    with tracing.span(f"{signals.SPAN_EXECUTE_TOOL} {name}", attributes=attributes) as span:
        observed = _RecordedTool(span)
        try:
            yield observed
        except BaseException as error:
            observed.error = error.code if isinstance(error, TurnWorkerError) else type(error).__name__
            raise
        finally:
            if turn.metrics is not None:
                turn.metrics.tool_call_ended(kind, time.perf_counter() - began, observed.error)


def content(value: object) -> str:
    """What was said, as an attribute: JSON without secrets."""
    return mask_secrets(json.dumps(value, ensure_ascii=False, default=str))
