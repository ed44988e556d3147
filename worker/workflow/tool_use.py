"""Which tools the nodes of a definition carry, and whether they can: the rules that need to know the tools themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from worker.workflow.definition import ToolNodeData
from worker.workflow.graph import transition_tool_name
from worker.workflow.problem import Place, Problem
from worker.workflow.tool_definition import McpServerDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.workflow.definition import Graph, WorkflowDefinition
    from worker.workflow.tool_definition import ToolDefinition


KNOWLEDGE_BASE_TOOL: Final = "retrieve_from_knowledge_base"
"""The name of the tool that every node with documents carries."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A node's mention of a tool.

    Attributes:
        place: The node.
        field: Where in the node the tool is mentioned.
        written: The id as it is written.
        tool_id: The id; None if what is written is none.
        taken: Names that a tool cannot have on this node, and what has them already.
    """

    place: Place
    field: str
    written: str
    tool_id: UUID | None
    taken: Mapping[str, str]


def tool_uses(definition: WorkflowDefinition) -> list[ToolUse]:
    """Every mention of a tool, in the order of the nodes."""
    return list(_uses(definition.graph))


def tool_problems(definition: WorkflowDefinition, tools: Mapping[UUID, ToolDefinition]) -> list[Problem]:
    """Find every mention of a tool that cannot stand.

    Args:
        definition: The definition, valid in itself.
        tools: Those of its tools that a new definition may use.
    """
    return list(_problems(definition, tools))


def _uses(graph: Graph) -> Iterator[ToolUse]:
    for position, node in enumerate(graph.nodes):
        if isinstance(node.data, ToolNodeData) and node.data.tool_uuids:
            place = Place("node", position, node.id)
            taken = {
                transition_tool_name(edge.data.label): f"the transition {edge.data.label!r}"
                for edge in graph.edges
                if edge.source == node.id
            }
            if node.data.document_uuids:
                taken[KNOWLEDGE_BASE_TOOL] = "the tool that searches its documents"
            for index, written in enumerate(node.data.tool_uuids):
                yield ToolUse(place, f"data.tool_uuids.{index}", written, _uuid(written), taken)


def _problems(definition: WorkflowDefinition, tools: Mapping[UUID, ToolDefinition]) -> Iterator[Problem]:
    first_with: dict[tuple[int, str], ToolUse] = {}
    for use in _uses(definition.graph):
        if use.tool_id is None:
            yield use.place.problem(use.field, f"{use.written!r} is not the id of a tool: ids are UUIDs.")
            continue
        tool = tools.get(use.tool_id)
        if tool is None:
            yield use.place.problem(
                use.field, f"There is no tool {use.written!r}, or it was deleted. Create it first, or remove it here."
            )
            continue
        first = first_with.setdefault((use.place.position, tool.name), use)
        if first.tool_id == use.tool_id and first is not use:
            yield use.place.problem(use.field, f"The tool {tool.name!r} is on this node already. Remove it here.")
        elif first is not use:
            yield use.place.problem(
                use.field,
                f"Its name {tool.name!r} is that of tool {first.written!r} on the same node. Rename one of the tools.",
            )
        # The tools of an MCP server are not named as the server is.
        if tool.name in use.taken and not isinstance(tool, McpServerDefinition):
            yield use.place.problem(
                use.field, f"Its name {tool.name!r} is that of {use.taken[tool.name]} on the same node. Rename it."
            )


def _uuid(written: str) -> UUID | None:
    try:
        return UUID(written)
    except ValueError:
        return None
