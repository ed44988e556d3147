"""The tools that end a session: the agent is done, or a person takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.conversation import event
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult
from worker.workflow.template import render

if TYPE_CHECKING:
    from pydantic import JsonValue

    from worker.workflow.tool_definition import EndConversationDefinition, HandOverDefinition

_DONE: Final[dict[str, JsonValue]] = {"status": "done"}


def end_conversation_tool(definition: EndConversationDefinition) -> Tool:
    """Make the tool of a definition. The session ends with its reason."""

    async def run(invocation: ToolInvocation) -> ToolResult:
        return ToolResult(
            result=dict(_DONE), message=_filled(definition.message, invocation), end_reason=definition.reason
        )

    return Tool(name=definition.name, description=definition.description, run=run)


def hand_over_tool(definition: HandOverDefinition) -> Tool:
    """Make the tool of a definition. The session ends with its reason as disposition, and an event says who takes over."""

    async def run(invocation: ToolInvocation) -> ToolResult:
        summary = invocation.arguments.get("summary")
        return ToolResult(
            result=dict(_DONE),
            message=_filled(definition.message, invocation),
            end_reason=definition.reason,
            learned={"call_disposition": definition.reason},
            events=[
                event.hand_over(
                    invocation.now,
                    reason=definition.reason,
                    destination=_filled(definition.destination, invocation).strip(),
                    summary=summary.strip() if isinstance(summary, str) else "",
                )
            ],
        )

    return Tool(
        name=definition.name,
        description=definition.description,
        run=run,
        properties={
            "summary": {
                "type": "string",
                "description": "What the person who takes over has to know: what the user wants and what was done so far.",
            }
        },
        required=["summary"],
    )


def _filled(template: str, invocation: ToolInvocation) -> str:
    return render(template, invocation.initial_context, invocation.gathered_context, invocation.now)
