"""The tools of each node, as the engine calls them: made for one turn from the tools that its definition uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from worker.engine.tools.calculator import calculator_tool
from worker.engine.tools.current_time import current_time_tool
from worker.engine.tools.ending import end_conversation_tool, hand_over_tool
from worker.engine.tools.http_request import http_request_tool
from worker.engine.tools.knowledge_base import knowledge_base_tool
from worker.engine.tools.speech import speaking
from worker.engine.turn import utc_now
from worker.storage.tools import newest_tools
from worker.turns.definitions import usable
from worker.workflow.definition import ToolNodeData
from worker.workflow.document_use import document_ids
from worker.workflow.tool_definition import (
    CalculatorDefinition,
    CurrentTimeDefinition,
    EndConversationDefinition,
    HandOverDefinition,
    HttpRequestDefinition,
    McpServerDefinition,
)
from worker.workflow.tool_use import KNOWLEDGE_BASE_TOOL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from worker.conversation.event import TurnEvent
    from worker.engine.recordings import Recordings
    from worker.engine.tools.knowledge_base import Documents
    from worker.engine.tools.mcp import McpTurn
    from worker.engine.tools.tool import Tool
    from worker.engine.web.access import WebAccess
    from worker.storage.database import Database
    from worker.turns.definitions import KnownDefinition
    from worker.workflow.definition import ConversationNode
    from worker.workflow.tool_definition import ToolDefinition

_SingleTool: TypeAlias = (
    HttpRequestDefinition
    | CalculatorDefinition
    | CurrentTimeDefinition
    | EndConversationDefinition
    | HandOverDefinition
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTools:
    """Knows the tools of each node during one turn; this is the engine's `NodeTools`.

    A node's pinned tools are at hand. Only a definition that follows its tools to their newest versions asks the database,
    once for each node that is entered and carries any.

    Attributes:
        organization_id: Whose turn it is.
        known: The turn's definition.
        web: How HTTP requests reach the web. A credential is looked up when a request is made, not before.
        mcp: The MCP servers as this turn uses them.
        recordings: The organization's recordings; None for none.
        documents: The organization's documents; None for none.
    """

    organization_id: UUID
    known: KnownDefinition
    database: Database
    web: WebAccess
    mcp: McpTurn
    recordings: Recordings | None = None
    documents: Documents | None = None
    clock: Callable[[], datetime] = utc_now

    async def of(self, node: ConversationNode, report: Callable[[TurnEvent], None]) -> Sequence[Tool]:
        """The tools a node carries. Of two with one name, which only an edit since can have caused, the first counts.

        Args:
            node: The node.
            report: Takes note of servers whose tools are missing.

        Raises:
            DatabaseUnavailable: when newest versions could not be read.
        """
        if not isinstance(node.data, ToolNodeData):
            return ()
        tools: dict[str, Tool] = {}
        only = {_uuid(written): offered for written, offered in node.data.mcp_tool_filters.items()}
        for tool_id, definition in await self._definitions(node.data):
            if isinstance(definition, McpServerDefinition):
                offered = await self.mcp.tools(definition, only=only.get(tool_id), report=report, now=self.clock())
            else:
                offered = [self._tool(definition)]
            for tool in offered:
                tools.setdefault(tool.name, tool)
        if self.documents is not None and (searched := document_ids(node.data)):
            tools[KNOWLEDGE_BASE_TOOL] = knowledge_base_tool(self.documents, searched)
        return tuple(tools.values())

    async def close(self) -> None:
        """Leave the servers that the turn used. Call it when the turn is over, however it ended."""
        await self.mcp.close()

    async def _definitions(self, data: ToolNodeData) -> list[tuple[UUID, ToolDefinition]]:
        ids = [id_ for written in data.tool_uuids if (id_ := _uuid(written))]
        tools: Mapping[UUID, ToolDefinition] = self.known.tools
        if ids and self.known.follows_tools:
            async with self.database.statement() as connection:
                newest = await newest_tools(connection, organization_id=self.organization_id, tool_ids=ids)
            tools = {**tools, **usable(newest.values())}
        return [(id_, tools[id_]) for id_ in ids if id_ in tools]

    def _tool(self, definition: _SingleTool) -> Tool:
        match definition:
            case HttpRequestDefinition():
                tool = http_request_tool(definition, self.web)
            case CalculatorDefinition():
                tool = calculator_tool(definition)
            case CurrentTimeDefinition():
                tool = current_time_tool(definition)
            case EndConversationDefinition():
                tool = end_conversation_tool(definition)
            case HandOverDefinition():
                tool = hand_over_tool(definition)
        recording_id = getattr(definition, "message_recording_id", "")
        return speaking(tool, recording_id, self.recordings) if recording_id else tool


def _uuid(written: str) -> UUID | None:
    try:
        return UUID(written)
    except ValueError:
        return None
