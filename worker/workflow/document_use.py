"""Which documents the nodes of a definition may search, and which of them there are not."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from worker.workflow.definition import ToolNodeData
from worker.workflow.problem import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from worker.workflow.definition import WorkflowDefinition
    from worker.workflow.problem import Problem


def document_ids(data: ToolNodeData) -> list[UUID]:
    """The documents of a node, each once. What is written as no id is left out: a stored definition is never refused."""
    ids = (_uuid(written) for written in data.document_uuids)
    return list(dict.fromkeys(id_ for id_ in ids if id_ is not None))


def used_documents(definition: WorkflowDefinition) -> set[UUID]:
    """Every document that a node may search."""
    nodes = (node.data for node in definition.graph.nodes)
    return {id_ for data in nodes if isinstance(data, ToolNodeData) for id_ in document_ids(data)}


def document_problems(definition: WorkflowDefinition, existing: Collection[UUID]) -> list[Problem]:
    """Find every mention of a document that cannot stand.

    Args:
        definition: The definition, valid in itself.
        existing: Those of its documents that its organization has.
    """
    return list(_problems(definition, existing))


def _problems(definition: WorkflowDefinition, existing: Collection[UUID]) -> Iterator[Problem]:
    for position, node in enumerate(definition.graph.nodes):
        if not isinstance(node.data, ToolNodeData):
            continue
        for index, written in enumerate(node.data.document_uuids):
            field = f"data.document_uuids.{index}"
            document_id = _uuid(written)
            place = Place("node", position, node.id)
            if document_id is None:
                yield place.problem(field, f"{written!r} is not the id of a document: ids are UUIDs.")
            elif document_id not in existing:
                yield place.problem(
                    field, f"There is no document {written!r}, or it was deleted. Upload it first, or remove it here."
                )


def _uuid(written: str) -> UUID | None:
    try:
        return UUID(written)
    except ValueError:
        return None
