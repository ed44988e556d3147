"""JSON Schemas without references, for models: a parameter is sent by itself, away from the definitions it refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

_MOST_PARTS: Final = 5_000
"""References of references multiply; no tool that a model could use has so many parts."""

_DEFINITIONS: Final = frozenset({"$defs", "definitions"})


def inlined(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Put what a schema's `$ref`s name in their place, so that every part of it can stand alone.

    Where that has no end, as in a tree, or leads nowhere, as to another document, anything is allowed: `{}`. The server of the
    tool checks what it is given in any case.
    """
    parts = _Parts(schema)
    return {name: parts.inline(value, ()) for name, value in schema.items() if name not in _DEFINITIONS}


class _Parts:
    def __init__(self, root: Mapping[str, JsonValue]) -> None:
        self._root = root
        self._left = _MOST_PARTS

    def inline(self, part: JsonValue, within: tuple[str, ...]) -> JsonValue:
        self._left -= 1
        if isinstance(part, list):
            return [self.inline(item, within) for item in part]
        if not isinstance(part, dict):
            return part
        reference = part.get("$ref")
        if not isinstance(reference, str):
            return {name: self.inline(value, within) for name, value in part.items()}
        if reference in within or self._left < 0:
            return {}
        target = self.inline(self._named(reference), (*within, reference))
        beside = {name: self.inline(value, within) for name, value in part.items() if name != "$ref"}
        return {**target, **beside} if isinstance(target, dict) else target

    def _named(self, reference: str) -> JsonValue:
        if not reference.startswith("#"):
            return {}
        found: JsonValue = dict(self._root)
        for name in _pointer(reference):
            if isinstance(found, dict) and name in found:
                found = found[name]
            else:
                return {}
        return found


def _pointer(reference: str) -> Iterator[str]:
    """The names in a JSON Pointer as a URI fragment: https://www.rfc-editor.org/rfc/rfc6901#section-6."""
    return (unquote(name).replace("~1", "/").replace("~0", "~") for name in reference.split("/")[1:])
