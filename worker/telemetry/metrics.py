"""The metrics of one process; their names and meanings stand in `worker.telemetry.signals`.

None has a label whose values tenants invent, but for the name of a model: a dashboard has to survive ten thousand tenants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation

from worker.telemetry import signals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)


class Metrics:
    """Where a process counts. Each method says what happened."""

    def __init__(self, meter: Meter) -> None:
        self._queue: tuple[int, float] | None = None
        self._running = meter.create_up_down_counter(
            signals.TURNS_RUNNING, description="Turns running in this process."
        )
        self._turns = meter.create_counter(signals.TURNS, description="Attempts at turns that ended.")
        self._enqueued = meter.create_counter(signals.TURNS_ENQUEUED, description="Turns taken by this API process.")
        self._retries = meter.create_counter(signals.TURN_RETRIES, description="Attempts that are tried again.")
        self._lease_losses = meter.create_counter(signals.LEASE_LOSSES, description="Attempts lost to another worker.")
        self._published = meter.create_counter(signals.EVENTS_PUBLISHED, description="Events that went out on Redis.")
        self._llm_errors = meter.create_counter(signals.LLM_ERRORS, description="LLM calls that failed.")
        self._turn_seconds = _seconds(meter, signals.TURN_DURATION, "Attempts at turns, from claim to commit.")
        self._queue_seconds = _seconds(
            meter, signals.QUEUE_WAIT, "How long turns could have been claimed and were not."
        )
        self._llm_seconds = _seconds(meter, signals.LLM_DURATION, "LLM calls, from the request to the reply's end.")
        self._first_chunk_seconds = _seconds(meter, signals.LLM_TIME_TO_FIRST_CHUNK, "LLM calls, to the first words.")
        self._tool_seconds = _seconds(meter, signals.TOOL_DURATION, "Tool calls and transitions.")
        self._tokens = meter.create_histogram(
            signals.LLM_TOKENS,
            unit="{token}",
            description="Tokens of one LLM call.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        meter.create_observable_gauge(signals.QUEUE_DEPTH, [self._depth], description="Turns waiting in the system.")
        meter.create_observable_gauge(
            signals.QUEUE_AGE, [self._age], unit="s", description="How long the oldest claimable turn has waited."
        )

    def turn_enqueued(self) -> None:
        """The API stored a turn."""
        self._enqueued.add(1)

    def turn_began(self, waited_seconds: float | None) -> None:
        """A worker claimed a turn that had waited so long; None for one taken over from a lost worker."""
        self._running.add(1)
        if waited_seconds is not None:
            self._queue_seconds.record(max(waited_seconds, 0.0))

    def turn_ended(self, outcome: str, seconds: float, error: str | None) -> None:
        """An attempt ended."""
        self._running.add(-1)
        by_outcome = {signals.TURN_OUTCOME: outcome}
        self._turns.add(1, _with_error(by_outcome, error))
        self._turn_seconds.record(seconds, by_outcome)
        if outcome == "retrying":
            self._retries.add(1, _with_error({}, error))
        elif outcome == "lease_lost":
            self._lease_losses.add(1)

    def llm_began_to_reply(self, provider: str, model: str, seconds: float) -> None:
        """The first words of a reply, or its first tool call, came after so long."""
        self._first_chunk_seconds.record(seconds, _chat(provider, model))

    def llm_call_ended(self, provider: str, model: str, seconds: float, error: str | None) -> None:
        """An LLM call ended."""
        call = _chat(provider, model)
        self._llm_seconds.record(seconds, _with_error(call, error))
        if error is not None:
            self._llm_errors.add(1, _with_error(call, error))

    def llm_used(self, provider: str, model: str, tokens: dict[str, int]) -> None:
        """An LLM call used so many tokens of each type."""
        call = _chat(provider, model)
        for type_, count in tokens.items():
            if count:
                self._tokens.record(count, {**call, signals.GEN_AI_TOKEN_TYPE: type_})

    def tool_call_ended(self, kind: str, seconds: float, error: str | None) -> None:
        """A tool call or a transition ended."""
        self._tool_seconds.record(seconds, _with_error({signals.TOOL_KIND: kind}, error))

    def events_published(self, count: int) -> None:
        """So many events went out."""
        self._published.add(count)

    def queue_seen(self, depth: int, age_seconds: float) -> None:
        """So many turns wait in the whole system, and the one that could be claimed for longest has waited so long."""
        self._queue = (depth, age_seconds)

    def queue_unseen(self) -> None:
        """Nobody knows any more what waits."""
        self._queue = None

    def _depth(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [] if self._queue is None else [Observation(self._queue[0])]

    def _age(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [] if self._queue is None else [Observation(self._queue[1])]


def _seconds(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(name, unit="s", description=description, explicit_bucket_boundaries_advisory=_SECONDS)


def _chat(provider: str, model: str) -> dict[str, str]:
    return {
        signals.GEN_AI_OPERATION_NAME: signals.SPAN_CHAT,
        signals.GEN_AI_PROVIDER_NAME: provider,
        signals.GEN_AI_REQUEST_MODEL: model,
    }


def _with_error(attributes: dict[str, str], error: str | None) -> dict[str, str]:
    return attributes if error is None else {**attributes, signals.ERROR_TYPE: error}
