"""Pinning: a stored definition keeps the versions of its tools that it was stored with."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from worker.storage.documents import existing_documents
from worker.storage.tools import usable_tools
from worker.workflow.document_use import document_problems, used_documents
from worker.workflow.tool_definition import InvalidTool, load_tool
from worker.workflow.tool_use import tool_problems, tool_uses

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.workflow.definition import WorkflowDefinition
    from worker.workflow.problem import Problem


class ToolPins(NamedTuple):
    """What a definition is to be stored with.

    Attributes:
        versions: The newest version of each tool that it uses, by the tool's id.
        problems: Why it cannot use a tool or a document that it mentions.
    """

    versions: dict[str, int]
    problems: list[Problem]


async def pin_tools(connection: AsyncConnection, *, organization_id: UUID, definition: WorkflowDefinition) -> ToolPins:
    """Look up the tools and the documents that a definition uses. Documents have no versions, but must exist.

    Without tools there is no query for tools, and without documents none for documents.
    """
    document_ids = used_documents(definition)
    existing: set[UUID] = set()
    if document_ids:
        existing = await existing_documents(connection, organization_id=organization_id, document_ids=document_ids)
    tool_ids = {use.tool_id for use in tool_uses(definition) if use.tool_id is not None}
    found = await usable_tools(connection, organization_id=organization_id, tool_ids=tool_ids) if tool_ids else {}
    readable = {}
    for id_, tool in found.items():
        with suppress(InvalidTool):  # stored by a later release; this one cannot run it
            readable[id_] = load_tool(tool.definition)
    return ToolPins(
        versions={str(id_): found[id_].version for id_ in sorted(found)},
        problems=[*tool_problems(definition, readable), *document_problems(definition, existing)],
    )
