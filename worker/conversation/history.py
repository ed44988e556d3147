"""The history of a conversation as it is stored: each turn keeps what it added, and a branch is folded back together.

A turn that changed what was there before it, as compaction does, keeps the whole context, and rebuilding starts there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pydantic import JsonValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Message: TypeAlias = dict[str, JsonValue]
"""One message of the model's context, with the provider's own content."""


@dataclass(frozen=True, slots=True)
class ContextDelta:
    """What one turn did to the context.

    Attributes:
        replaces: Whether `messages` are the whole context, rather than what follows the one before.
        messages: The messages to store.
    """

    replaces: bool
    messages: list[Message]


def context_delta(before: Sequence[Message], after: Sequence[Message]) -> ContextDelta:
    """Find the least to store so that folding it onto `before` gives `after`.

    The tail counts only if everything before it is unchanged to the last JSON type: `1`, `1.0` and `true` differ.
    """
    prefix = after[: len(before)]
    if len(prefix) == len(before) and all(map(same_json, before, prefix)):
        return ContextDelta(replaces=False, messages=list(after[len(before) :]))
    return ContextDelta(replaces=True, messages=list(after))


def fold(base: Sequence[Message], deltas: Iterable[ContextDelta]) -> list[Message]:
    """Rebuild the context along a branch.

    Args:
        base: The context before the first delta.
        deltas: One for each completed turn, oldest first. What stands before one that replaces is not needed.
    """
    messages = list(base)
    for delta in deltas:
        if delta.replaces:
            messages = list(delta.messages)
        else:
            messages.extend(delta.messages)
    return messages


def same_json(a: object, b: object) -> bool:
    """Compare as JSON: Python finds `1 == True`, which what is rebuilt must not."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(item, b[key]) for key, item in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return a == b
