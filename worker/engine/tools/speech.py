"""A tool's own message as a recording: text shows what is said in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.conversation import event

if TYPE_CHECKING:
    from worker.engine.recordings import Recordings
    from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult


def speaking(tool: Tool, recording_id: str, recordings: Recordings | None) -> Tool:
    """The same tool, whose message is a recording's transcript. A recording that is not there is an event."""

    async def run(invocation: ToolInvocation) -> ToolResult:
        # First: once the tool has run, nothing may keep its result from being told.
        transcript = await recordings.transcript(recording_id) if recordings is not None else None
        result = await tool.run(invocation)
        if transcript and transcript.strip():
            return replace(result, message=transcript.strip())
        missing = event.recording_missing(invocation.now, recording_id=recording_id)
        return replace(result, events=[*result.events, missing])

    return replace(tool, run=run)
