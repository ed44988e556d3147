"""The rules of a graph: which nodes there may be, how they may be joined, what must not be empty."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from worker.workflow.definition import RESERVED_VARIABLES, ConversationNodeData, PromptNodeData, StartCallData
from worker.workflow.graph import transition_tool_name
from worker.workflow.problem import Place, Problem
from worker.workflow.template import template_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.workflow.definition import Graph, NodeData

TOOL_NAME_LIMIT = 64
"""Characters of a tool's name that every provider takes: OpenAI's limit; Anthropic's is 128."""


class _Limits(NamedTuple):
    """How many edges may meet a type of node, and how many such nodes there may be. None: any number."""

    incoming: tuple[int, int | None]
    outgoing: tuple[int, int | None] = (0, None)
    nodes: tuple[int, int | None] = (0, None)


_LIMITS = {
    "startCall": _Limits(incoming=(0, 0), nodes=(1, 1)),
    "agentNode": _Limits(incoming=(1, None)),
    "endCall": _Limits(incoming=(1, None), outgoing=(0, 0)),
    "globalNode": _Limits(incoming=(0, 0), outgoing=(0, 0), nodes=(0, 1)),
    "trigger": _Limits(incoming=(0, 0), nodes=(0, 1)),
    "webhook": _Limits(incoming=(0, 0), outgoing=(0, 0)),
    "qa": _Limits(incoming=(0, 0), outgoing=(0, 0)),
}


def graph_problems(graph: Graph) -> Iterator[Problem]:
    """Find everything that breaks a rule: for the graph as a whole, then node by node, then edge by edge."""
    yield from _instance_problems(graph)
    yield from _node_problems(graph)
    yield from _edge_problems(graph)
    yield from _tool_name_problems(graph)


def _instance_problems(graph: Graph) -> Iterator[Problem]:
    counts = Counter(node.type for node in graph.nodes)
    for kind, limits in _LIMITS.items():
        least, most = limits.nodes
        if counts[kind] < least or (most is not None and counts[kind] > most):
            needed = "exactly one" if least else "at most one"
            yield Problem("workflow", None, "nodes", f"There are {counts[kind]} {kind} nodes; there must be {needed}.")


def _node_problems(graph: Graph) -> Iterator[Problem]:
    incoming = Counter(edge.target for edge in graph.edges)
    outgoing = Counter(edge.source for edge in graph.edges)
    places = [Place("node", position, node.id) for position, node in enumerate(graph.nodes)]
    yield from _id_problems(places)
    for place, node in zip(places, graph.nodes, strict=True):
        limits = _LIMITS.get(node.type)
        if limits is None:
            yield place.problem("type", f"There is no node type {node.type!r}. The types are {', '.join(_LIMITS)}.")
            continue
        if node.id.strip():
            yield from _degree_problems(place, node.type, "incoming", incoming[node.id], limits.incoming)
            yield from _degree_problems(place, node.type, "outgoing", outgoing[node.id], limits.outgoing)
        yield from _data_problems(place, node.type, node.data)


def _id_problems(places: list[Place]) -> Iterator[Problem]:
    uses = Counter(place.id for place in places)
    first_with: dict[str | None, Place] = {}
    for place in places:
        if not (place.id and place.id.strip()):
            yield place.problem("id", "It needs an id.")
        elif first_with.setdefault(place.id, place) is place and uses[place.id] > 1:
            yield place.problem("id", f"{uses[place.id]} {place.kind}s have this id. Give each its own.")


def _degree_problems(
    place: Place, kind: str, direction: str, count: int, limits: tuple[int, int | None]
) -> Iterator[Problem]:
    least, most = limits
    if count < least:
        yield place.problem(None, f"A node of type {kind} needs at least one {direction} edge.")
    if most is not None and count > most:
        yield place.problem(None, f"A node of type {kind} can have no {direction} edge; this one has {count}.")


def _data_problems(place: Place, kind: str, data: NodeData) -> Iterator[Problem]:
    if isinstance(data, PromptNodeData):
        if not data.prompt.strip():
            yield place.problem("data.prompt", f"A node of type {kind} needs a prompt.")
        yield from _template_problems(place, "data.prompt", data.prompt)
    if isinstance(data, StartCallData):
        yield from _template_problems(place, "data.greeting", data.greeting)
    if isinstance(data, ConversationNodeData):
        yield from _template_problems(place, "data.extraction_prompt", data.extraction_prompt)
        yield from _variable_problems(place, data)


def _variable_problems(place: Place, data: ConversationNodeData) -> Iterator[Problem]:
    first_with: dict[str, int] = {}
    for position, variable in enumerate(data.extraction_variables):
        field, name = f"data.extraction_variables.{position}", variable.name.strip()
        if not name:
            yield place.problem(f"{field}.name", "A variable to extract needs a name.")
        elif name in RESERVED_VARIABLES:
            yield place.problem(f"{field}.name", f"{name!r} is kept by the engine itself. Choose another name.")
        elif first_with.setdefault(name, position) != position:
            yield place.problem(f"{field}.name", "Another variable of this node has this name. Give each its own.")
        yield from _template_problems(place, f"{field}.prompt", variable.prompt)


def _edge_problems(graph: Graph) -> Iterator[Problem]:
    kinds = {node.id: node.type for node in graph.nodes}
    places = [Place("edge", position, edge.id) for position, edge in enumerate(graph.edges)]
    yield from _id_problems(places)
    for place, edge in zip(places, graph.edges, strict=True):
        for end, node_id in (("source", edge.source), ("target", edge.target)):
            if not node_id:
                yield place.problem(end, f"An edge needs a {end}: the id of a node.")
            elif node_id not in kinds:
                yield place.problem(end, f"There is no node {node_id!r}. Join the edge to a node or remove it.")
        if kinds.get(edge.source) != "trigger":  # a trigger's edge is never offered to the model
            yield from _label_problems(place, edge.data.label)
        yield from _template_problems(place, "data.transition_speech", edge.data.transition_speech)


def _label_problems(place: Place, label: str) -> Iterator[Problem]:
    length = len(transition_tool_name(label))
    if not label.strip():
        yield place.problem("data.label", "An edge needs a label; its tool is named after it.")
    elif length > TOOL_NAME_LIMIT:
        yield place.problem(
            "data.label",
            f"The label gives a tool name of {length} characters; providers take {TOOL_NAME_LIMIT}. Shorten it.",
        )


def _tool_name_problems(graph: Graph) -> Iterator[Problem]:
    triggers = {node.id for node in graph.nodes if node.type == "trigger"}
    first_with: dict[tuple[str, str], Place] = {}
    for position, edge in enumerate(graph.edges):
        if not edge.source or edge.source in triggers or not edge.data.label.strip():
            continue
        place = Place("edge", position, edge.id)
        name = transition_tool_name(edge.data.label)
        first = first_with.setdefault((edge.source, name), place)
        if first is not place:
            yield place.problem(
                "data.label",
                f"Its label gives the tool name {name!r}, as that of edge {first.id!r} of the same node does. "
                "Word one of them differently.",
            )


def _template_problems(place: Place, field: str, template: str) -> Iterator[Problem]:
    if message := template_problem(template):
        yield place.problem(field, message)
