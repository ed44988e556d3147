"""The graph of a definition as the engine walks it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from worker.errors import TurnWorkerError
from worker.workflow.definition import AgentNode, EndCallNode, GlobalNode, StartCallNode

if TYPE_CHECKING:
    from worker.workflow.definition import ConversationNode, Edge, WorkflowDefinition

_OUTSIDE_TOOL_NAME = re.compile(r"[^a-z0-9]")


class UnknownNode(TurnWorkerError):
    """A conversation stands on a node that its definition does not have."""

    code: ClassVar[str] = "unknown_node"

    def __init__(self, node_id: str | None) -> None:
        super().__init__(node_id)
        self.node_id = node_id

    def __str__(self) -> str:
        if self.node_id is None:
            return "The definition has no start node. Store a definition with exactly one node of type startCall."
        return (
            f"The definition has no conversation node {self.node_id!r}. "
            "Start the session again, or fork it from a turn of the same definition."
        )


def transition_tool_name(label: str) -> str:
    """Turn an edge's label into the name of its tool: lower case, everything outside a-z and 0-9 replaced by `_`."""
    return _OUTSIDE_TOOL_NAME.sub("_", label.lower())


@dataclass(frozen=True, slots=True)
class Transition:
    """One way out of a node, offered to the model as a tool without parameters.

    Attributes:
        tool_name: Name of the tool.
        description: When to take it: the edge's condition, or its label when it has none.
        edge: The edge it follows.
        target: The node it leads to.
    """

    tool_name: str
    description: str
    edge: Edge
    target: ConversationNode


class WorkflowGraph:
    """A definition indexed for running. Build it once per definition and share it: it never changes.

    It refuses nothing: what a stored definition lacks is simply not there (an edge to nowhere is no transition; of
    two transitions with one tool name the first counts).
    """

    def __init__(self, definition: WorkflowDefinition) -> None:
        self._nodes: dict[str, ConversationNode] = {}
        self._start_node: StartCallNode | None = None
        self._global_node: GlobalNode | None = None
        for node in definition.graph.nodes:
            if isinstance(node, (StartCallNode, AgentNode, EndCallNode)):
                self._nodes.setdefault(node.id, node)
            if isinstance(node, StartCallNode) and self._start_node is None:
                self._start_node = node
            if isinstance(node, GlobalNode) and self._global_node is None:
                self._global_node = node
        transitions: defaultdict[str, dict[str, Transition]] = defaultdict(dict)
        for edge in definition.graph.edges:
            target = self._nodes.get(edge.target)
            if target is not None:
                name = transition_tool_name(edge.data.label)
                description = edge.data.condition.strip() or edge.data.label
                transitions[edge.source].setdefault(name, Transition(name, description, edge, target))
        self._transitions = {source: tuple(by_name.values()) for source, by_name in transitions.items()}

    @property
    def start_node(self) -> StartCallNode:
        """Where a conversation begins.

        Raises:
            UnknownNode: The definition has no start node; validation refuses such a definition.
        """
        if self._start_node is None:
            raise UnknownNode(None)
        return self._start_node

    @property
    def global_node(self) -> GlobalNode | None:
        """The node whose prompt others share, or None."""
        return self._global_node

    def node(self, node_id: str) -> ConversationNode:
        """Look up a node that a conversation can stand on.

        Raises:
            UnknownNode: There is no start, agent or end node with this id.
        """
        try:
            return self._nodes[node_id]
        except KeyError:
            raise UnknownNode(node_id) from None

    def transitions(self, node_id: str) -> tuple[Transition, ...]:
        """List the ways out of a node, in the order they were drawn."""
        return self._transitions.get(node_id, ())

    def is_end(self, node_id: str) -> bool:
        """Tell whether entering this node ends the session. Decided by its type alone.

        Raises:
            UnknownNode: There is no such node.
        """
        return isinstance(self.node(node_id), EndCallNode)
