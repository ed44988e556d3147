"""The definitions this process runs, each with its graph and its tools. They never change, so each is read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from worker.storage.definitions import get_definition
from worker.storage.tools import pinned_tools
from worker.telemetry import names
from worker.workflow.document_use import used_documents
from worker.workflow.graph import WorkflowGraph
from worker.workflow.tool_definition import InvalidTool, load_tool
from worker.workflow.tool_use import tool_uses
from worker.workflow.validation import load_definition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.storage.database import Database
    from worker.storage.tools import Tool
    from worker.workflow.definition import WorkflowDefinition
    from worker.workflow.tool_definition import ToolDefinition

log = structlog.get_logger(__name__)

_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class KnownDefinition:
    """A stored definition, ready to run.

    Attributes:
        graph: Its graph, indexed.
        uses_tools: Whether any node mentions a tool or a document.
        tools: The tools it pins, by id, each in its pinned version.
    """

    definition: WorkflowDefinition
    graph: WorkflowGraph
    uses_tools: bool
    tools: Mapping[UUID, ToolDefinition]

    @property
    def follows_tools(self) -> bool:
        """Whether its conversations take each tool in its newest version, in place of the pinned one."""
        return self.definition.workflow_configurations.tool_versions == "latest"


class KnownDefinitions:
    """Reads definitions and keeps those used last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[UUID, KnownDefinition] = {}

    async def get(self, *, organization_id: UUID, definition_id: UUID) -> KnownDefinition:
        """A definition; the first time, it is read.

        Raises:
            DatabaseUnavailable: when it could not be read.
        """
        known = self._known.get(definition_id)
        if known is None:
            known = await self._read(organization_id, definition_id)
            if len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[definition_id] = known
        return known

    async def _read(self, organization_id: UUID, definition_id: UUID) -> KnownDefinition:
        async with self._database.statement() as connection:
            stored = await get_definition(connection, organization_id=organization_id, definition_id=definition_id)
            pins = [(UUID(tool_id), version) for tool_id, version in stored.tool_pins.items()]
            tools = await pinned_tools(connection, organization_id=organization_id, pins=pins) if pins else {}
        definition = load_definition(stored.document)
        return KnownDefinition(
            definition=definition,
            graph=WorkflowGraph(definition),
            uses_tools=bool(tool_uses(definition) or used_documents(definition)),
            tools=usable(tools.values()),
        )


def usable(tools: Iterable[Tool]) -> dict[UUID, ToolDefinition]:
    """The tools that this release can read, by id. One that it cannot is left out: a stored definition is never refused."""
    read = {}
    for tool in tools:
        try:
            read[tool.id] = load_tool(tool.definition)
        except InvalidTool as error:
            log.warning(names.TOOL_UNUSABLE, tool_id=str(tool.id), version=tool.version, error=str(error))
    return read
