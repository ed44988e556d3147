"""Reading definitions: strictly when one is written, never refusing when a stored one is run.

`parse_definition` is for what a user hands in: it accepts it or raises with every problem at once. `load_definition`
is for what was accepted before, perhaps by another release: what it cannot make sense of counts as absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph_rules import graph_problems
from worker.workflow.llm_providers import model_problem, provider_problem
from worker.workflow.model_configuration import check_tenant_configuration
from worker.workflow.problem import InvalidWorkflow, Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic import JsonValue
    from pydantic_core import ErrorDetails

    from worker.workflow.problem import ProblemKind
    from worker.workflow.web_address import AllowedHosts

__all__ = [
    "InvalidWorkflow",
    "Problem",
    "definition_document",
    "examine_definition",
    "further_problems",
    "load_definition",
    "parse_definition",
]

_CONFIGURATIONS = "workflow_configurations"
_OBJECT_EXPECTED = frozenset({"model_type", "model_attributes_type"})
_PLAIN_MESSAGES = {
    "string_type": "It must be text.",
    "bool_type": "It must be true or false.",
    "bool_parsing": "It must be true or false.",
    "tuple_type": "It must be a list.",
    "dict_type": "It must be a JSON object.",
    **dict.fromkeys(_OBJECT_EXPECTED, "It must be a JSON object."),
    "extra_forbidden": "There is no such setting. Check its spelling.",
}


def definition_document(data: object) -> dict[str, JsonValue]:
    """Bring what a user handed in into the one form that is stored, keeping every key it has.

    Args:
        data: A full definition, `{"graph": ..., "workflow_configurations": ...}`, or the bare graph that visual
            editors export, `{"nodes": ..., "edges": ..., "viewport": ...}`.

    Raises:
        InvalidWorkflow: It is neither.
    """
    if isinstance(data, dict):
        if "graph" in data:
            return data
        if "nodes" in data:
            graph = {key: value for key, value in data.items() if key != _CONFIGURATIONS}
            return {"graph": graph, _CONFIGURATIONS: data.get(_CONFIGURATIONS) or {}}
    message = 'A workflow is a JSON object with a "graph", or the graph itself with its "nodes" and "edges".'
    raise InvalidWorkflow((Problem("workflow", None, None, message),))


def parse_definition(data: object, *, allowed_hosts: AllowedHosts | None = None) -> WorkflowDefinition:
    """Read and check a definition that a user handed in.

    Args:
        data: Either form that `definition_document` accepts.
        allowed_hosts: The private hosts that the organization's requests may reach; None where it is not known whose
            definition it is.

    Raises:
        InvalidWorkflow: It cannot be accepted; carries every problem at once.
    """
    definition, problems = examine_definition(data, allowed_hosts=allowed_hosts)
    if problems:
        raise InvalidWorkflow(tuple(problems))
    return definition


def examine_definition(
    data: object, *, allowed_hosts: AllowedHosts | None = None
) -> tuple[WorkflowDefinition, list[Problem]]:
    """Read a definition and find every problem that it shows by itself, for callers that look for further ones elsewhere.

    The arguments are those of `parse_definition`. What has the wrong shape is absent from the definition.

    Raises:
        InvalidWorkflow: There is no graph in it at all.
    """
    document = definition_document(data)
    definition, faults = _read(document)
    problems = [_problem(document, fault) for fault in faults]
    whole = {("workflow", None, field) for field in ("graph", "nodes", "edges")}
    if whole.isdisjoint((problem.kind, problem.id, problem.field) for problem in problems):
        problems += further_problems(problems, graph_problems(definition.graph))
    problems += _configuration_problems(definition, allowed_hosts)
    return definition, problems


def further_problems(known: Iterable[Problem], found: Iterable[Problem]) -> list[Problem]:
    """Those of the problems found that are news: about fields that, with all that they are part of, nobody blames yet."""
    blamed = {(problem.kind, problem.id, problem.field) for problem in known}
    return [problem for problem in found if not _is_blamed(problem, blamed)]


def load_definition(data: object) -> WorkflowDefinition:
    """Read a stored definition for running. It was checked when it was written and is not refused again.

    Reading costs some ten microseconds per node: do it once per definition, which never changes, and keep the result.

    Raises:
        InvalidWorkflow: There is no graph in it at all.
    """
    return _read(definition_document(data))[0]


def _is_blamed(problem: Problem, blamed: set[tuple[ProblemKind, str | None, str | None]]) -> bool:
    """Tell whether a field, or what it is part of, has the wrong shape already, so that its emptiness is no news."""
    steps = (problem.field or "").split(".")
    return any((problem.kind, problem.id, ".".join(steps[:end])) in blamed for end in range(1, len(steps) + 1))


def _read(document: object) -> tuple[WorkflowDefinition, list[ErrorDetails]]:
    """Read what can be read: each value of the wrong shape is reported and treated as absent."""
    faults: list[ErrorDetails] = []
    while True:
        try:
            return WorkflowDefinition.model_validate(document), faults
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
        faults += found
        wanting_object = {_path(fault) for fault in found if fault["type"] in _OBJECT_EXPECTED}
        for path in sorted({_path(fault) for fault in found}, key=_sortable, reverse=True):
            document = _emptied(document, path, keep_place=path in wanting_object)


def _path(fault: ErrorDetails) -> tuple[int | str, ...]:
    """Where a fault is in the document. Inside a node, pydantic's location also names the kind of node."""
    location = fault["loc"]
    return location[:3] + location[4:] if location[:2] == ("graph", "nodes") else location


def _sortable(path: tuple[int | str, ...]) -> list[tuple[bool, int | str]]:
    """Order paths so that, from the last to the first, each can be removed without moving the others."""
    return [(isinstance(step, int), step) for step in path]


def _emptied(value: Any, path: Sequence[int | str], *, keep_place: bool) -> Any:
    """Copy a document without the value at a path, or with an empty object in its place; share everything else."""
    first, *rest = path
    copy = value.copy()
    if rest:
        copy[first] = _emptied(copy[first], rest, keep_place=keep_place)
    elif keep_place:
        copy[first] = {}
    else:
        del copy[first]
    return copy


def _problem(document: dict[str, Any], fault: ErrorDetails) -> Problem:
    message = _PLAIN_MESSAGES.get(fault["type"], fault["msg"])
    match _path(fault):
        case ("graph", "nodes", int(position), *rest):
            return _place("node", document["graph"]["nodes"], position).problem(_dotted(rest) or None, message)
        case ("graph", "edges", int(position), *rest):
            return _place("edge", document["graph"]["edges"], position).problem(_dotted(rest) or None, message)
        case ("graph", first, *rest):
            return Problem("workflow", None, _dotted([first, *rest]), message)
        case path:
            return Problem("workflow", None, _dotted(path), message)


def _place(kind: Literal["node", "edge"], items: list[object], position: int) -> Place:
    item = items[position]
    item_id = item.get("id") if isinstance(item, dict) else None
    return Place(kind, position, item_id if isinstance(item_id, str) else None)


def _configuration_problems(definition: WorkflowDefinition, allowed_hosts: AllowedHosts | None) -> Iterator[Problem]:
    overrides = definition.workflow_configurations.model_overrides
    if overrides is None:
        return
    place = f"{_CONFIGURATIONS}.model_overrides"
    for prefix, choice in (("", overrides), ("fallback.", overrides.fallback)):
        if choice is None or choice.provider is None:
            continue
        if message := provider_problem(choice.provider):
            yield Problem("workflow", None, f"{place}.{prefix}provider", message)
        elif choice.model is not None and (message := model_problem(choice.provider, choice.model)):
            yield Problem("workflow", None, f"{place}.{prefix}model", message)
    for field, message in check_tenant_configuration(overrides, allowed_hosts):
        yield Problem("workflow", None, f"{place}.{field}", message)


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))
