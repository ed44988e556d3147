"""Reading a model's answer to a question for variables: the JSON in it, and each value by its type."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.extracted_values import Rejected, Unreadable, WrongType, coerce, read_object, read_values
from worker.workflow.definition import ExtractionVariable

if TYPE_CHECKING:
    from pydantic import JsonValue

VARIABLES = (
    ExtractionVariable(name="name"),
    ExtractionVariable(name="age", type="number"),
    ExtractionVariable(name="insured", type="boolean"),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=5)
prose = st.text(st.characters(codec="utf-8", exclude_characters='{}"'), max_size=40)


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "Ada", "age": 36}',
        '```json\n{"name": "Ada", "age": 36}\n```',
        '```\n{"name": "Ada", "age": 36}\n```\nAnything else?',
        'Here it is: {"name": "Ada", "age": 36}. I hope that helps {a lot}.',
        '{"name": "Ada", "age": 36,}',
        '{"name": "Ada", /* she said so */ "age": 36} // done',
        "{'name': 'Ada', 'age': 36}",
        '{name: "Ada", age: 36}',
        '{{"name": "Ada", "age": 36}}',
        'The variables {name} and {age}: {"name": "Ada", "age": 36}',
        'At first {"name": null}, but then {"name": "Ada", "age": 36}',
        '{"name": "Ada", "age": 36} (I left out {"insured"})',
    ],
)
def test_the_object_is_found_whatever_stands_around_it(answer: str) -> None:
    assert read_object(answer, {"name", "age"}) == {"name": "Ada", "age": 36}


def test_of_several_objects_the_last_that_names_a_variable_counts() -> None:
    assert read_object('{"name": "A"} {"name": "B"} {"note": "x"}', {"name"}) == {"name": "B"}


def test_a_line_break_inside_a_text_is_read() -> None:
    assert read_object('{"name": "Ada\nLovelace"}') == {"name": "Ada\nLovelace"}


@pytest.mark.parametrize(
    "answer",
    ["", "I do not know.", "[1, 2]", "null", "{", '{"name": "Ada"', '{"name": "Ada" "age": 36}', "{" * 5_000],
)
def test_an_answer_without_a_whole_object_is_unreadable(answer: str) -> None:
    with pytest.raises(Unreadable):
        read_object(answer)


def test_what_stands_inside_an_object_that_cannot_be_read_is_not_taken_for_the_answer() -> None:
    with pytest.raises(Unreadable):
        read_object('{"name": "Ada" "friend": {"name": "Charles"}}', {"name"})


@pytest.mark.timeout(60)  # with effort that grows as the square of the length it would take hours
def test_a_long_answer_full_of_braces_is_given_up_soon() -> None:
    with pytest.raises(Unreadable):
        read_object("{" * 20_000)
    with pytest.raises(Unreadable):
        read_object('{"a":' * 20_000)


@given(prose, json_objects, prose)
def test_any_object_is_found_between_any_words(before: str, stated: dict[str, Any], after: str) -> None:
    assert read_object(f"{before}{json.dumps(stated)}{after}") == stated
    assert read_object(f"{before}```json\n{json.dumps(stated, indent=2)}\n```{after}") == stated


@given(st.text())
def test_no_answer_breaks_the_reader(answer: str) -> None:
    try:
        values = read_values(answer, VARIABLES)
    except Unreadable:
        return
    assert {*values.known, *values.unknown, *(rejected.name for rejected in values.rejected)} == {
        "name",
        "age",
        "insured",
    }


@given(json_objects)
def test_every_variable_is_known_unknown_or_rejected_and_what_is_known_has_its_type(stated: dict[str, Any]) -> None:
    values = read_values(json.dumps(stated), VARIABLES)

    assert len(values.known) + len(values.unknown) + len(values.rejected) == len(VARIABLES)
    for name, value in values.known.items():
        kinds: Any = {"name": str, "age": (int, float), "insured": bool}[name]
        assert isinstance(value, kinds)
    json.dumps([values.known, values.rejected], allow_nan=False)


@pytest.mark.parametrize(
    ("value", "kind", "meant"),
    [
        (" Ada ", "string", "Ada"),
        (36, "string", "36"),
        (1.5, "string", "1.5"),
        (True, "string", "true"),
        (36, "number", 36),
        (1.5, "number", 1.5),
        ("36", "number", 36),
        (" -1.5 ", "number", -1.5),
        ("1e3", "number", 1000.0),
        ("007", "number", 7),
        ("12345678901234567890", "number", 12345678901234567890),
        (True, "boolean", True),
        (0, "boolean", False),
        ("Yes", "boolean", True),
        (" FALSE ", "boolean", False),
    ],
)
def test_a_value_is_given_its_type_where_only_one_value_can_be_meant(value: JsonValue, kind: str, meant: Any) -> None:
    coerced = coerce(value, kind)

    assert coerced == meant
    assert type(coerced) is type(meant)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (["Ada"], "string"),
        ({"first": "Ada"}, "string"),
        (math.inf, "string"),
        ("1,200", "number"),
        ("about 5", "number"),
        ("five", "number"),
        ("5 km", "number"),
        ("٣", "number"),
        ("1e999", "number"),
        ("9" * 400, "number"),
        ("nan", "number"),
        (True, "number"),
        (math.nan, "number"),
        ([36], "number"),
        ("maybe", "boolean"),
        ("1 or 2", "boolean"),
        (2, "boolean"),
        (0.5, "boolean"),
        ({}, "boolean"),
    ],
)
def test_a_value_that_could_mean_several_things_or_none_is_of_the_wrong_type(value: Any, kind: str) -> None:
    with pytest.raises(WrongType):
        coerce(value, kind)


@given(st.integers(), st.sampled_from(["number", "string"]))
def test_whole_numbers_keep_every_digit(number: int, kind: str) -> None:
    assert str(coerce(str(number), kind)) == str(number)
    assert str(coerce(number, kind)) == str(number)


def test_what_is_missing_null_or_blank_is_unknown() -> None:
    values = read_values('{"name": " ", "age": null}', VARIABLES)

    assert values.known == {}
    assert values.unknown == ["name", "age", "insured"]
    assert values.rejected == []


def test_what_has_the_wrong_type_is_reported_with_its_beginning_and_never_guessed() -> None:
    values = read_values(json.dumps({"name": "Ada", "age": "x" * 500, "insured": "maybe"}), VARIABLES)

    assert values.known == {"name": "Ada"}
    age, insured = values.rejected
    assert insured == Rejected("insured", '"maybe"', "It says neither true nor false.")
    assert age.value.startswith('"xxx')
    assert len(age.value) == 200


def test_other_names_in_the_answer_mean_nothing() -> None:
    assert read_values('{"name": "Ada", "call_disposition": "won"}', VARIABLES).known == {"name": "Ada"}
