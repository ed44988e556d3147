"""Workflows and their immutable, numbered definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from uuid_utils.compat import uuid7

from worker.storage.definitions import PinnedDefinition
from worker.storage.schema import workflow_definitions, workflows
from worker.storage.sessions import WorkflowNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow without its graph.

    Attributes:
        number: The number of its newest definition, from 1.
        updated_at: When that definition was stored.
    """

    id: UUID
    organization_id: UUID
    name: str
    number: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowWithDefinition(Workflow):
    """A workflow with one of its definitions: `number` and `updated_at` are those of this definition.

    Attributes:
        tool_pins: The version of each tool that the definition was stored with, by the tool's id.
    """

    definition: dict[str, Any]
    tool_pins: dict[str, int]


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """The definition that a workflow has after it was written; `created` is False if it had that very one already."""

    number: int
    created: bool


_INSERT = insert(workflows)
_INSERT_DEFINITION = insert(workflow_definitions)
_LOCK = (
    select(workflows.c.name)
    .where(workflows.c.id == bindparam("workflow_id"), workflows.c.organization_id == bindparam("organization_id"))
    .with_for_update()
)
_RENAME = (
    update(workflows)
    .where(workflows.c.id == bindparam("b_workflow_id"), workflows.c.organization_id == bindparam("b_organization_id"))
    .values(name=bindparam("b_name"))
)
_SUMMARY = select(
    workflows.c.id,
    workflows.c.organization_id,
    workflows.c.name,
    workflow_definitions.c.number,
    workflows.c.created_at,
    workflow_definitions.c.created_at.label("updated_at"),
).join(
    workflow_definitions,
    (workflow_definitions.c.workflow_id == workflows.c.id)
    & (workflow_definitions.c.organization_id == workflows.c.organization_id),
)
_ONE = _SUMMARY.add_columns(workflow_definitions.c.definition, workflow_definitions.c.tool_pins).where(
    workflows.c.id == bindparam("workflow_id"), workflows.c.organization_id == bindparam("organization_id")
)
_NEWEST = _ONE.order_by(workflow_definitions.c.number.desc()).limit(1)
_NUMBERED = _ONE.where(workflow_definitions.c.number == bindparam("number"))
_LIST = (
    _SUMMARY.ext(distinct_on(workflows.c.created_at, workflows.c.id))
    .where(workflows.c.organization_id == bindparam("organization_id"))
    .order_by(workflows.c.created_at.desc(), workflows.c.id.desc(), workflow_definitions.c.number.desc())
    .limit(bindparam("limit"))
)
_LIST_AFTER = _LIST.where(
    tuple_(workflows.c.created_at, workflows.c.id) < tuple_(bindparam("created_at"), bindparam("id"))
)


async def create_workflow(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    name: str,
    definition: Mapping[str, JsonValue],
    tool_pins: Mapping[str, int] | None = None,
) -> UUID:
    """Store a workflow with its first definition, which the caller has validated, and return its id.

    Args:
        tool_pins: What `pin_tools` found; None for a definition that uses no tools.
    """
    workflow_id: UUID = uuid7()
    await connection.execute(_INSERT, {"id": workflow_id, "organization_id": organization_id, "name": name})
    await _insert_definition(
        connection, organization_id, workflow_id, PinnedDefinition(dict(definition), dict(tool_pins or {})), number=1
    )
    return workflow_id


async def put_definition(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    workflow_id: UUID,
    definition: Mapping[str, JsonValue],
    tool_pins: Mapping[str, int] | None = None,
    name: str | None = None,
) -> StoredDefinition:
    """Store a workflow's next definition, which the caller has validated; sessions that exist keep theirs.

    Repeating it is safe: a definition equal to the newest one, with the same versions of its tools, is not stored again.

    Args:
        tool_pins: What `pin_tools` found; None for a definition that uses no tools.
        name: The workflow's new name; None keeps the old one.

    Raises:
        WorkflowNotFound: when the organization has no such workflow.
    """
    key = {"workflow_id": workflow_id, "organization_id": organization_id}
    if (await connection.execute(_LOCK, key)).one_or_none() is None:
        raise WorkflowNotFound(workflow_id)
    if name is not None:
        await connection.execute(
            _RENAME, {"b_workflow_id": workflow_id, "b_organization_id": organization_id, "b_name": name}
        )
    newest = (await connection.execute(_NEWEST, key)).one()
    pins = dict(tool_pins or {})
    if newest.definition == definition and newest.tool_pins == pins:
        return StoredDefinition(newest.number, created=False)
    stored = PinnedDefinition(dict(definition), pins)
    await _insert_definition(connection, organization_id, workflow_id, stored, number=newest.number + 1)
    return StoredDefinition(newest.number + 1, created=True)


async def get_workflow(
    connection: AsyncConnection, *, organization_id: UUID, workflow_id: UUID, number: int | None = None
) -> WorkflowWithDefinition | None:
    """A workflow with its newest definition, or with the one of that number; None if there is no such one."""
    key: dict[str, object] = {"workflow_id": workflow_id, "organization_id": organization_id}
    if number is None:
        result = await connection.execute(_NEWEST, key)
    else:
        result = await connection.execute(_NUMBERED, {**key, "number": number})
    row = result.one_or_none()
    return None if row is None else WorkflowWithDefinition(*_summary(row), row.definition, row.tool_pins)


async def list_workflows(
    connection: AsyncConnection, *, organization_id: UUID, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[Workflow]:
    """The organization's workflows, newest first; `after` is the last one's `(created_at, id)` of the page before."""
    values: dict[str, object] = {"organization_id": organization_id, "limit": limit}
    if after is None:
        result = await connection.execute(_LIST, values)
    else:
        result = await connection.execute(_LIST_AFTER, {**values, "created_at": after[0], "id": after[1]})
    return [Workflow(*_summary(row)) for row in result]


async def _insert_definition(
    connection: AsyncConnection,
    organization_id: UUID,
    workflow_id: UUID,
    pinned: PinnedDefinition,
    *,
    number: int,
) -> None:
    await connection.execute(
        _INSERT_DEFINITION,
        {
            "id": uuid7(),
            "organization_id": organization_id,
            "workflow_id": workflow_id,
            "number": number,
            "definition": pinned.document,
            "tool_pins": pinned.tool_pins,
        },
    )


def _summary(row: Row[*tuple[Any, ...]]) -> tuple[UUID, UUID, str, int, datetime, datetime]:
    return row.id, row.organization_id, row.name, row.number, row.created_at, row.updated_at
