"""The tool that tells the time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult

if TYPE_CHECKING:
    from worker.workflow.tool_definition import CurrentTimeDefinition


def current_time_tool(definition: CurrentTimeDefinition) -> Tool:
    """Make the tool of a definition. Its result is `{status, zone, date, time, weekday, utc_offset}`, or an error."""

    async def run(invocation: ToolInvocation) -> ToolResult:
        zone = invocation.arguments.get("zone") or definition.zone
        try:
            local = invocation.now.astimezone(ZoneInfo(str(zone)))
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as `America`
            message = f"There is no time zone {str(zone)[:80]!r}. Give an IANA name such as Europe/Berlin."
            return ToolResult(result={"status": "error", "message": message})
        return ToolResult(
            result={
                "status": "success",
                "zone": str(zone),
                "date": local.strftime("%Y-%m-%d"),
                "time": local.strftime("%H:%M:%S"),
                "weekday": local.strftime("%A"),
                "utc_offset": local.isoformat()[-6:],
            }
        )

    return Tool(
        name=definition.name,
        description=definition.description,
        run=run,
        properties={
            "zone": {
                "type": "string",
                "description": f"The IANA name of a time zone, such as Europe/Berlin. Without it, {definition.zone}.",
            }
        },
    )
