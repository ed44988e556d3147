"""What is measured, in which unit, how, and what it aims at."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

AT_MOST: Final = "<="
AT_LEAST: Final = ">="
_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {AT_MOST: operator.le, AT_LEAST: operator.ge}


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of `benchmarks.json`.

    Attributes:
        how: How it is measured, in a sentence.
        aim: What it should reach, as (comparison, value); None if it only stands beside the others.
    """

    name: str
    unit: str
    how: str
    aim: tuple[str, float] | None = None

    def reached(self, value: float) -> bool | None:
        """Whether `value` is what the metric aims at; None if it aims at nothing."""
        return None if self.aim is None else _COMPARISONS[self.aim[0]](value, self.aim[1])


_ENGINE = "one process, the scripted LLM in another, 500 turns after 300 to warm up, bare calls and turns alternating"
_END_TO_END = "API, workers, PostgreSQL (durable), Redis and scripted LLM as processes of this machine"

METRICS: Final = (
    Metric("engine_text_turn_ms_p50", "ms", f"a plain text turn in the engine alone: {_ENGINE}"),
    Metric("engine_tool_turn_ms_p50", "ms", f"a turn with a transition and two LLM calls: {_ENGINE}"),
    Metric(
        "bare_sdk_call_ms_p50",
        "ms",
        f"the SDK with the engine's HTTP client streams the same reply: {_ENGINE}",
    ),
    Metric("engine_over_sdk_ratio", "", "engine_text_turn_ms_p50 / bare_sdk_call_ms_p50", (AT_MOST, 3.5)),
    Metric(
        "engine_rss_growth_mb_500_turns",
        "MiB",
        f"resident memory after those turns less before: {_ENGINE}",
        (AT_MOST, 5),
    ),
    Metric(
        "e2e_turn_ms_p50",
        "ms",
        f"client POST to completion event received, one at a time: {_END_TO_END}",
        (AT_MOST, 25),
    ),
    Metric("e2e_turn_ms_p95", "ms", "the same, 95th percentile"),
    Metric(
        "throughput_turns_per_s",
        "1/s",
        f"closed loop, 32 sessions, two worker processes: {_END_TO_END}",
        (AT_LEAST, 90),
    ),
    Metric("enqueue_ms_p50", "ms", "client POST to 202 received, one at a time, of the same turns"),
    Metric(
        "stored_bytes_turn_2",
        "bytes",
        "pg_column_size of all that turn 2 of a conversation stored: turn, messages, events, usage",
    ),
    Metric(
        "stored_bytes_turn_200",
        "bytes",
        "the same for turn 200 of that conversation; every user message has 400 characters",
    ),
    Metric("stored_bytes_ratio", "", "stored_bytes_turn_200 / stored_bytes_turn_2", (AT_MOST, 1.1)),
    Metric(
        "inflight_2s_turns_per_process",
        "turns",
        "the most turns, of 100, 250, 500, 750, that one process (TURN_WORKER_CONCURRENCY=1000) holds at once, each waiting "
        "over 2 s for the LLM, while plain turns of that process take at most 1.5 times as long as with none held, and no "
        "lease is lost",
        (AT_LEAST, 500),
    ),
)
