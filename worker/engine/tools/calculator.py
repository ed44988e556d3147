"""The tool that works out arithmetic, which models are bad at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.engine.tools.arithmetic import NotArithmetic, evaluate
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult

if TYPE_CHECKING:
    from worker.workflow.tool_definition import CalculatorDefinition


def calculator_tool(definition: CalculatorDefinition) -> Tool:
    """Make the tool of a definition. Its result is `{status, result}`, or `{status: error, message}`."""
    return Tool(
        name=definition.name,
        description=definition.description,
        run=_run,
        properties={
            "expression": {
                "type": "string",
                "description": "Arithmetic, such as (19.99 * 3) / 2: numbers, + - * / // % **, parentheses, abs, ceil, "
                "floor, max, min, round, sqrt.",
            }
        },
        required=["expression"],
    )


async def _run(invocation: ToolInvocation) -> ToolResult:
    expression = invocation.arguments.get("expression")
    if isinstance(expression, (int, float)):
        expression = str(expression)
    if not isinstance(expression, str):
        return ToolResult(result={"status": "error", "message": "Give `expression` as text, such as (3 + 4) * 2.5."})
    try:
        return ToolResult(result={"status": "success", "result": evaluate(expression)})
    except NotArithmetic as error:
        return ToolResult(result={"status": "error", "message": str(error)})
