"""What the engine needs of a tool and of whoever knows which tools a node carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pydantic import JsonValue

    from worker.workflow.definition import ConversationNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something the model may call.

    Attributes:
        name: What the model calls it; unique within a node.
        description: When to call it.
        run: Does it. What it returns is the result the model sees; what it raises becomes a result with status `error`.
        properties: JSON Schema of each parameter, by name.
        required: Names of the parameters that must be given.
    """

    name: str
    description: str
    run: Callable[[Mapping[str, JsonValue]], Awaitable[JsonValue]]
    properties: Mapping[str, JsonValue] = field(default_factory=dict)
    required: Sequence[str] = ()


class NodeTools(Protocol):
    """Knows the tools of each node."""

    async def of(self, node: ConversationNode) -> Sequence[Tool]:
        """Look up the tools a node carries. What this raises keeps the conversation from moving to that node."""
        ...
