"""Schemas of tools whose every part can stand alone."""

from __future__ import annotations

from typing import Any

from worker.engine.tools.inlined_schema import inlined

ADDRESS = {"type": "object", "properties": {"city": {"$ref": "#/$defs/City"}}}
CITY = {"type": "string", "description": "A city."}


def test_what_is_referred_to_takes_the_references_place_through_every_level() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "home": {"$ref": "#/$defs/Address"},
            "more": {"type": "array", "items": {"$ref": "#/$defs/City"}},
        },
        "required": ["home"],
        "$defs": {"Address": ADDRESS, "City": CITY},
    }
    assert inlined(schema) == {
        "type": "object",
        "properties": {
            "home": {"type": "object", "properties": {"city": CITY}},
            "more": {"type": "array", "items": CITY},
        },
        "required": ["home"],
    }


def test_what_stands_beside_a_reference_goes_before_what_it_names() -> None:
    schema: dict[str, Any] = {
        "properties": {"from": {"$ref": "#/definitions/City", "description": "Where from."}},
        "definitions": {"City": CITY},
    }
    assert inlined(schema) == {"properties": {"from": {"type": "string", "description": "Where from."}}}


def test_a_name_may_be_written_in_the_pointers_escapes() -> None:
    schema: dict[str, Any] = {"properties": {"x": {"$ref": "#/$defs/a~1b%20c"}}, "$defs": {"a/b c": CITY}}
    assert inlined(schema) == {"properties": {"x": CITY}}


def test_a_reference_without_an_end_or_a_place_allows_anything() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}
    schema: dict[str, Any] = {
        "properties": {
            "tree": {"$ref": "#/$defs/Tree"},
            "gone": {"$ref": "#/$defs/Gone"},
            "elsewhere": {"$ref": "https://example.com/schema.json"},
        },
        "$defs": {"Tree": tree},
    }
    assert inlined(schema)["properties"] == {
        "tree": {"type": "object", "properties": {"children": {"type": "array", "items": {}}}},
        "gone": {},
        "elsewhere": {},
    }


def test_references_that_multiply_are_cut_off() -> None:
    levels = {f"L{n}": {"anyOf": [{"$ref": f"#/$defs/L{n + 1}"}] * 10} for n in range(40)}
    schema: dict[str, Any] = {"properties": {"x": {"$ref": "#/$defs/L0"}}, "$defs": {**levels, "L40": CITY}}
    assert len(str(inlined(schema))) < 1_000_000


def test_a_schema_without_references_stays_as_it_is() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": ["$ref", "#"]}},
        "required": ["name"],
    }
    assert inlined(schema) == schema
