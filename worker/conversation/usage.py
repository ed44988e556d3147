"""What a turn, or a whole session, used: tokens, speech, time.

Counts and sections this release does not know are summed and handed on too, so that nothing is lost while two
releases run side by side.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

_Amount = TypeVar("_Amount")


class MalformedUsage(TurnWorkerError):
    """Something other than an amount stands where one belongs."""

    code: ClassVar[str] = "malformed_usage"

    def __init__(self, place: str, expected: str) -> None:
        super().__init__(place, expected)
        self.place = place
        self.expected = expected

    def __str__(self) -> str:
        return f"The usage is malformed: {self.place} must be {self.expected}."


def usage_key(processor: str, model: str) -> str:
    """Name who used something: `<processor>|||<model>`."""
    return f"{processor}|||{model}"


@dataclass(frozen=True, slots=True)
class LLMUsage:
    """Tokens of one processor and model, in the provider's own counting.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens generated.
        total_tokens: Both, with whatever cache the provider counts apart.
        cache_read_input_tokens: Tokens of the prompt read from the provider's cache.
        cache_creation_input_tokens: Tokens of the prompt written to it.
        extras: Further counts, by name.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    extras: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: LLMUsage) -> LLMUsage:
        """Sum each count."""
        return LLMUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            _sum_by_key(self.extras, other.extras, operator.add),
        )

    def to_json(self) -> dict[str, JsonValue]:
        """Write it down."""
        return {
            **self.extras,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "cache_creation_input_tokens": self.cache_creation_input_tokens,
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used, each section keyed by `usage_key`.

    Attributes:
        llm: Tokens.
        tts: Characters spoken.
        stt: Seconds transcribed.
        call_duration_seconds: Seconds the turn, or the turns together, took.
        extras: Further sections: amounts, or amounts by key.
    """

    llm: Mapping[str, LLMUsage] = field(default_factory=dict)
    tts: Mapping[str, float] = field(default_factory=dict)
    stt: Mapping[str, float] = field(default_factory=dict)
    call_duration_seconds: float = 0.0
    extras: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, JsonValue]:
        """Write it down."""
        return {
            **cast("Mapping[str, JsonValue]", self.extras),
            "llm": {key: used.to_json() for key, used in self.llm.items()},
            "tts": dict(self.tts),
            "stt": dict(self.stt),
            "call_duration_seconds": self.call_duration_seconds,
        }

    @staticmethod
    def from_json(value: Mapping[str, JsonValue] | None) -> Usage:
        """Read what `to_json` wrote; a missing or null section, entry or count is empty.

        Raises:
            MalformedUsage: Something else stands where an amount or a section should.
        """
        stored = {name: item for name, item in (value or {}).items() if item is not None}
        return Usage(
            llm={key: _llm_usage(used, key) for key, used in _object(stored.pop("llm", None), "llm").items()},
            tts=_amounts(stored.pop("tts", None), "tts"),
            stt=_amounts(stored.pop("stt", None), "stt"),
            call_duration_seconds=_number(stored.pop("call_duration_seconds", None), "call_duration_seconds"),
            extras={
                name: _amounts(item, name) if isinstance(item, dict) else _number(item, name)
                for name, item in stored.items()
            },
        )


def merge(a: Usage, b: Usage) -> Usage:
    """Sum two usages key by key. The order of merging makes no difference, and nothing is lost.

    Raises:
        MalformedUsage: A section this release does not know is an amount in one and has keys in the other.
    """
    return Usage(
        llm=_sum_by_key(a.llm, b.llm, operator.add),
        tts=_sum_by_key(a.tts, b.tts, operator.add),
        stt=_sum_by_key(a.stt, b.stt, operator.add),
        call_duration_seconds=a.call_duration_seconds + b.call_duration_seconds,
        extras=_sum_by_key(a.extras, b.extras, _sum_sections),
    )


def _sum_by_key(
    a: Mapping[str, _Amount], b: Mapping[str, _Amount], add: Callable[[_Amount, _Amount], _Amount]
) -> dict[str, _Amount]:
    return {**a, **{key: add(a[key], amount) if key in a else amount for key, amount in b.items()}}


def _sum_sections(a: float | Mapping[str, float], b: float | Mapping[str, float]) -> float | Mapping[str, float]:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a + b
    if isinstance(a, (int, float)) or isinstance(b, (int, float)):
        raise MalformedUsage("a section", "either an amount or amounts by key, in every turn alike")
    return _sum_by_key(a, b, operator.add)


def _object(value: JsonValue, place: str) -> dict[str, JsonValue]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise MalformedUsage(place, "a JSON object")


def _amounts(value: JsonValue, place: str) -> dict[str, float]:
    return {key: _number(amount, f"{place}.{key}") for key, amount in _object(value, place).items()}


def _number(value: JsonValue, place: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise MalformedUsage(place, "a number")


def _llm_usage(value: JsonValue, key: str) -> LLMUsage:
    counts = {name: _count(count, f"llm.{key}.{name}") for name, count in _object(value, f"llm.{key}").items()}
    return LLMUsage(
        prompt_tokens=counts.pop("prompt_tokens", 0),
        completion_tokens=counts.pop("completion_tokens", 0),
        total_tokens=counts.pop("total_tokens", 0),
        cache_read_input_tokens=counts.pop("cache_read_input_tokens", 0),
        cache_creation_input_tokens=counts.pop("cache_creation_input_tokens", 0),
        extras=counts,
    )


def _count(value: JsonValue, place: str) -> int:
    number = _number(value, place)
    if number == int(number):
        return int(number)
    raise MalformedUsage(place, "a whole number")
