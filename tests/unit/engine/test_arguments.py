"""What a model calls a tool with, read by its declared types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.tools.arguments import read_arguments
from worker.workflow.tool_definition import ToolParameter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
TYPES: dict[str, Any] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def parameter(kind: str, name: str = "x", *, required: bool = True) -> ToolParameter:
    return ToolParameter.model_validate({"name": name, "type": kind, "required": required})


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("string", "a", "a"),
        ("string", 3, "3"),
        ("string", True, "true"),
        ("string", {"a": "ü"}, '{"a": "ü"}'),
        ("number", 2.5, 2.5),
        ("number", "2.5", 2.5),
        ("number", " 3 ", 3),
        ("integer", 3.0, 3),
        ("integer", "3", 3),
        ("boolean", False, False),
        ("boolean", "Yes", True),
        ("boolean", 0, False),
        ("array", [1], [1]),
        ("array", "[1, 2]", [1, 2]),
        ("object", '{"a": 1}', {"a": 1}),
    ],
)
def test_a_value_whose_writing_leaves_no_doubt_is_taken_in_its_declared_type(
    kind: str, given: Any, expected: Any
) -> None:
    read = read_arguments([parameter(kind)], {"x": given})
    assert read.problems == []
    assert read.values == {"x": expected}
    assert type(read.values["x"]) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("number", "three"),
        ("number", True),
        ("number", "inf"),
        ("number", "nan"),
        ("number", "1" * 5000),
        ("integer", 2.5),
        ("boolean", "perhaps"),
        ("boolean", 2),
        ("array", "a, b"),
        ("array", {"a": 1}),
        ("object", "[1]"),
        ("object", "[" * 10_000),
    ],
)
def test_a_value_of_another_type_is_a_problem_that_names_parameter_type_and_value(kind: str, given: Any) -> None:
    read = read_arguments([parameter(kind)], {"x": given})
    assert read.values == {}
    (problem,) = read.problems
    assert "`x`" in problem
    assert kind in problem
    assert len(problem) < 200


def test_every_problem_is_told_at_once_and_what_is_optional_may_be_missing() -> None:
    parameters = [parameter("integer", "a"), parameter("string", "b"), parameter("string", "c", required=False)]
    read = read_arguments(parameters, {"a": "x", "b": None, "unknown": 1})
    assert len(read.problems) == 2
    assert read.values == {}


@given(st.sampled_from(sorted(TYPES)), JSON)
def test_a_value_that_is_read_has_its_declared_type_whatever_was_given(kind: str, value: Any) -> None:
    read = read_arguments([parameter(kind)], {"x": value})
    if "x" in read.values:
        assert isinstance(read.values["x"], TYPES[kind])
    else:
        assert read.problems
