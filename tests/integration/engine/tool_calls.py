"""Calls of a tool alone, as the engine makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.engine.tools.tool import ToolInvocation

if TYPE_CHECKING:
    from worker.engine.tools.tool import Tool, ToolResult

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def invocation(arguments: dict[str, Any] | None = None, **changes: Any) -> ToolInvocation:
    values: dict[str, Any] = {
        "arguments": arguments or {},
        "tool_call_id": "call-1",
        "idempotency_key": "key-1",
        "initial_context": {"name": "Ada", "id": "a/b c"},
        "gathered_context": {"age": 36},
        "now": NOW,
    }
    return ToolInvocation(**{**values, **changes})


async def call(tool: Tool, arguments: dict[str, Any] | None = None, **changes: Any) -> ToolResult:
    return await tool.run(invocation(arguments, **changes))
