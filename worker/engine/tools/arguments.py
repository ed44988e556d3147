"""Reads what a model calls a tool with: each value in its declared type, or a problem that the model can mend."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from worker.workflow.tool_definition import ToolParameter

_SHOWN: Final = 80
_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"false", "no", "0"})


class _Unfit(Exception):
    """A value is not of its declared type, and its writing does not tell which one was meant."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call gave.

    Attributes:
        values: The given values by name. What is not declared is left out.
        problems: What keeps the call from being made, each for the model to read.
    """

    values: Mapping[str, JsonValue]
    problems: Sequence[str]


def read_arguments(parameters: Sequence[ToolParameter], given: Mapping[str, JsonValue]) -> Arguments:
    """Read the arguments of a call.

    A value is taken as meant if its writing leaves no doubt: `"3"` for a number, `"true"` for a boolean, `3` for a text,
    JSON text for an object or a list. Anything else is a problem and never guessed.
    """
    values: dict[str, JsonValue] = {}
    problems = []
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is None:
            if parameter.required:
                problems.append(f"`{parameter.name}` is missing; give a value of type {parameter.type}.")
            continue
        try:
            values[parameter.name] = _as(parameter.type, value)
        except _Unfit:
            shown = json.dumps(value, ensure_ascii=False)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            problems.append(f"`{parameter.name}` must be of type {parameter.type}; {shown} is not.")
    return Arguments(values, problems)


def _as(kind: str, value: JsonValue) -> JsonValue:
    match kind:
        case "string":
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        case "boolean":
            return _boolean(value)
        case "number":
            return _number(value)
        case "integer":
            number = _number(value)
            if number != int(number):
                raise _Unfit
            return int(number)
        case "array":
            return _structure(value, list)
        case _:
            return _structure(value, dict)


def _boolean(value: JsonValue) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _Unfit


def _number(value: JsonValue) -> int | float:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                raise _Unfit from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Unfit
    if isinstance(value, float) and not math.isfinite(value):  # JSON knows no infinity
        raise _Unfit
    return value


def _structure(value: JsonValue, kind: type[list[JsonValue] | dict[str, JsonValue]]) -> JsonValue:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _Unfit from None
    if not isinstance(value, kind):
        raise _Unfit
    return value
