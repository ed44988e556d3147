"""Reads a model's answer to "what do you know of these variables?": the JSON in it, and each value by its declared type."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import json5

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pydantic import JsonValue

    from worker.workflow.definition import ExtractionVariable

_BEGINS_OBJECT: Final = re.compile(r"\{\s*(?:\"[^\"]*\"|'[^']*'|\w+)\s*:")
_BRACE_OR_STRING: Final = re.compile(r"[{}]|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_WHOLE: Final = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_FRACTION: Final = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WORDS: Final = {"true": True, "yes": True, "false": False, "no": False}
_QUOTED_CHARS: Final = 200
_MAX_OBJECTS: Final = 50
"""How many braces are tried, so that a reply full of them takes no time that other turns need."""
_MAX_LENIENT_CHARS: Final = 20_000
"""The lenient reader is written in Python and takes its time: 20,000 characters, some tenths of a second."""


class Unreadable(ValueError):
    """The answer holds no JSON object."""


class WrongType(ValueError):
    """A value is not of its declared type, and saying what it means would be guessing."""


class Rejected(NamedTuple):
    """A value that was not taken over, as JSON text, the beginning of it."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExtractedValues:
    """What an answer says of the variables.

    Attributes:
        known: Values by name, of their declared type.
        unknown: Names of variables the conversation says nothing of.
        rejected: Values of another type.
    """

    known: dict[str, JsonValue] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def read_values(answer: str, variables: Iterable[ExtractionVariable]) -> ExtractedValues:
    """Read an answer. A missing or null value, and blank text, say that nothing is known.

    Raises:
        Unreadable: It holds no JSON object.
    """
    by_name = {variable.name.strip(): variable.type for variable in variables}
    stated = read_object(answer, by_name.keys())
    values = ExtractedValues()
    for name, kind in by_name.items():
        value = stated.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            values.unknown.append(name)
            continue
        try:
            values.known[name] = coerce(value, kind)
        except WrongType as error:
            values.rejected.append(Rejected(name, json.dumps(value, ensure_ascii=False)[:_QUOTED_CHARS], str(error)))
    return values


def read_object(text: str, names: Collection[str] = ()) -> dict[str, JsonValue]:
    """Find the JSON object in a text that may have code fences, words around it, comments or commas too many.

    Of several objects the last counts that has one of these names: what a model tries out comes before what it answers.

    Raises:
        Unreadable: There is none.
    """
    found = list(_objects(text))
    if not found:
        raise Unreadable("The answer holds no JSON object.")
    return next((candidate for candidate in reversed(found) if not candidate.keys().isdisjoint(names)), found[-1])


def coerce(value: JsonValue, kind: str) -> str | float | bool:
    """Give a value the declared type, where only one value can be meant.

    Args:
        value: Anything but null.
        kind: `string`, `number` or `boolean`.

    Raises:
        WrongType: Several values could be meant, or none.
    """
    if kind == "boolean":
        return _boolean(value)
    if kind == "number":
        return _number(value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (bool, int, float)) and math.isfinite(value):
        return json.dumps(value)
    raise WrongType("It is not a text.")


def _boolean(value: JsonValue) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in {0, 1}:
        return bool(value)
    if isinstance(value, str) and (word := value.strip().lower()) in _WORDS:
        return _WORDS[word]
    raise WrongType("It says neither true nor false.")


def _number(value: JsonValue) -> float:
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return int(text)
        value = float(text) if _FRACTION.fullmatch(text) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise WrongType("It is not one plain number.")


def _objects(text: str) -> Iterator[dict[str, JsonValue]]:
    """Find the outermost objects. What stands inside one that cannot be read is not looked at: it means something else."""
    start = text.find("{")
    for _ in range(_MAX_OBJECTS):
        if start < 0:
            return
        end = _end_of_object(text, start)
        value = _parsed(text[start:end])
        if value is not None:
            yield value
        elif not _BEGINS_OBJECT.match(text, start):  # braces of prose, or too many of them
            end = start + 1
        start = text.find("{", end)


def _end_of_object(text: str, start: int) -> int:
    """Find the end of an object by its braces; the end of the text when it has none."""
    depth = 0
    for token in _BRACE_OR_STRING.finditer(text, start):
        if token[0] in "{}":
            depth += 1 if token[0] == "{" else -1
            if not depth:
                return token.end()
    return len(text)


def _parsed(text: str) -> dict[str, JsonValue] | None:
    """Read JSON, or else JSON5: with comments, trailing commas, single quotes or bare names.

    A reader that repairs whatever it is given would have to guess; this one has a grammar.
    """
    for read in (_read_strictly, _read_leniently):
        try:
            value = read(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _read_strictly(text: str) -> JsonValue:
    value: JsonValue = json.loads(text, strict=False)  # not strict: models write line breaks inside strings
    return value


def _read_leniently(text: str) -> JsonValue:
    if len(text) > _MAX_LENIENT_CHARS:
        raise ValueError("It is too long to be read leniently.")
    value: JsonValue = json5.loads(text)
    return value
