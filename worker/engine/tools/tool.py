"""What the engine needs of a tool and of whoever knows which tools a node carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.workflow.definition import ConversationNode


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolInvocation:
    """One call of a tool, with what the conversation knows at that moment. Nothing of it may be changed.

    Attributes:
        arguments: What the model calls it with.
        tool_call_id: The provider's name of the call.
        idempotency_key: The same whenever this very call is run again, after a lost worker or in a retried turn.
        repeated: It was run before, and how that ended is not known.
        initial_context: Values given when the session was created.
        gathered_context: What the conversation has learned so far.
        state: What the tool left for itself when it was last called in this conversation; None for nothing.
        now: The current time, with its zone.
    """

    arguments: Mapping[str, JsonValue]
    tool_call_id: str
    idempotency_key: str
    initial_context: dict[str, JsonValue]
    gathered_context: dict[str, JsonValue]
    now: datetime
    repeated: bool = False
    state: JsonValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """Everything a call leads to, as data: it can be written down and applied again without running the tool.

    Attributes:
        result: What the model sees.
        message: What the user reads with it; empty for nothing. It is not told to the model.
        end_reason: Why the session ends with it; None when it goes on. The model is then not asked again.
        learned: Values for the gathered context, by name.
        state: What the tool leaves for its next call in this conversation; None leaves what is there.
        events: What an operator would want to know of, beside the call itself.
    """

    result: JsonValue
    message: str = ""
    end_reason: str | None = None
    learned: Mapping[str, JsonValue] = field(default_factory=dict)
    state: JsonValue = None
    events: Sequence[TurnEvent] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something the model may call.

    Attributes:
        name: What the model calls it; unique within a node.
        description: When to call it.
        run: Does it. What it raises becomes a result with status `error`, without the reason.
        properties: JSON Schema of each parameter, by name.
        required: Names of the parameters that must be given.
        repeatable: Whether a call whose end is not known may be run again, under the same idempotency key. If not, the
            model is told that its outcome is unknown.
        state_key: Under which name its state is kept in the conversation; its own name by default.
    """

    name: str
    description: str
    run: Callable[[ToolInvocation], Awaitable[ToolResult]]
    properties: Mapping[str, JsonValue] = field(default_factory=dict)
    required: Sequence[str] = ()
    repeatable: bool = True
    state_key: str = ""


class NodeTools(Protocol):
    """Knows the tools of each node."""

    async def of(self, node: ConversationNode, report: Callable[[TurnEvent], None]) -> Sequence[Tool]:
        """Look up the tools a node carries. What this raises keeps the conversation from moving to that node.

        Args:
            node: The node.
            report: Takes note of what an operator would want to know, such as a server whose tools are missing.
        """
        ...


def idempotency_key(root: UUID, llm_call: int, tool_call_id: str) -> str:
    """Name a tool call the same whenever it is run, and unlike every other.

    Args:
        root: The turn, or the first of the turns that retry one another.
        llm_call: The number of the reply within the turn that made the call: some providers begin anew with their ids.
        tool_call_id: The provider's name of the call.
    """
    return str(uuid5(root, f"{llm_call}/{tool_call_id}"))
