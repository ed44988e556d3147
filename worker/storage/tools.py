"""Tools and their immutable, numbered versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from uuid_utils.compat import uuid7

from worker.errors import TurnWorkerError
from worker.storage.schema import tool_versions, tools

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


class ToolNotFound(TurnWorkerError):
    """The organization has no tool of that id, or has deleted it."""

    code = "tool_not_found"

    def __init__(self, tool_id: UUID) -> None:
        super().__init__(tool_id)
        self.tool_id = tool_id

    def __str__(self) -> str:
        return f"There is no tool {self.tool_id}."


class ToolExists(TurnWorkerError):
    """The organization has, or had, a tool of that id."""

    code = "tool_exists"

    def __init__(self, tool_id: UUID) -> None:
        super().__init__(tool_id)
        self.tool_id = tool_id

    def __str__(self) -> str:
        return f"There is, or was, a tool {self.tool_id}. Give it its next version (PUT), or choose another id."


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool in one of its versions.

    Attributes:
        version: The version's number, from 1.
        definition: The version in its stored form (`worker.workflow.tool_definition`).
        updated_at: When that version was stored.
    """

    id: UUID
    organization_id: UUID
    version: int
    definition: dict[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """The version that a tool has after it was written; `created` is False if it had that very one already."""

    version: int
    created: bool


_INSERT = insert(tools).on_conflict_do_nothing().returning(tools.c.id)
_INSERT_VERSION = insert(tool_versions)
_OF_ORGANIZATION = tools.c.organization_id == bindparam("organization_id")
_ALIVE = (_OF_ORGANIZATION, tools.c.id == bindparam("tool_id"), tools.c.deleted_at.is_(None))
_LOCK = select(tools.c.id).where(*_ALIVE).with_for_update()
_DELETE = (
    update(tools)
    .where(
        tools.c.organization_id == bindparam("of_organization"),
        tools.c.id == bindparam("of_id"),
        tools.c.deleted_at.is_(None),
    )
    .values(deleted_at=func.now())
    .returning(tools.c.id)
)
_VERSIONS = select(
    tools.c.id,
    tools.c.organization_id,
    tool_versions.c.version,
    tool_versions.c.definition,
    tools.c.created_at,
    tool_versions.c.created_at.label("updated_at"),
).join(
    tool_versions,
    (tool_versions.c.organization_id == tools.c.organization_id) & (tool_versions.c.tool_id == tools.c.id),
)
_NEWEST = _VERSIONS.where(*_ALIVE).order_by(tool_versions.c.version.desc()).limit(1)
_NUMBERED = _VERSIONS.where(*_ALIVE, tool_versions.c.version == bindparam("version"))
_LIST = (
    _VERSIONS.ext(distinct_on(tools.c.created_at, tools.c.id))
    .where(_OF_ORGANIZATION, tools.c.deleted_at.is_(None))
    .order_by(tools.c.created_at.desc(), tools.c.id.desc(), tool_versions.c.version.desc())
    .limit(bindparam("limit"))
)
_LIST_AFTER = _LIST.where(tuple_(tools.c.created_at, tools.c.id) < tuple_(bindparam("created_at"), bindparam("id")))
_NEWEST_OF_EACH = (
    _VERSIONS.ext(distinct_on(tools.c.id))
    .where(_OF_ORGANIZATION, tools.c.id.in_(bindparam("tool_ids", expanding=True)))
    .order_by(tools.c.id, tool_versions.c.version.desc())
)
_USABLE = _NEWEST_OF_EACH.where(tools.c.deleted_at.is_(None))
_EXACT = _VERSIONS.where(
    _OF_ORGANIZATION,
    tuple_(tools.c.id, tool_versions.c.version).in_(bindparam("pins", expanding=True)),
)


async def create_tool(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    definition: Mapping[str, JsonValue],
    tool_id: UUID | None = None,
) -> Tool:
    """Store a tool with its first version, which the caller has validated.

    Args:
        tool_id: An id of the caller's choice, to keep that of an exported workflow.

    Raises:
        ToolExists: when the organization has, or had, a tool of that id.
    """
    id_: UUID = tool_id or uuid7()
    if await connection.scalar(_INSERT, {"organization_id": organization_id, "id": id_}) is None:
        raise ToolExists(id_)
    await _insert_version(connection, organization_id, id_, 1, definition)
    return await get_tool(connection, organization_id=organization_id, tool_id=id_)


async def put_tool(
    connection: AsyncConnection, *, organization_id: UUID, tool_id: UUID, definition: Mapping[str, JsonValue]
) -> StoredVersion:
    """Store a tool's next version, which the caller has validated; definitions that pin an older one keep it.

    Repeating it is safe: a version equal to the newest one is not stored again.

    Raises:
        ToolNotFound: when the organization has no such tool.
    """
    key = {"organization_id": organization_id, "tool_id": tool_id}
    if await connection.scalar(_LOCK, key) is None:
        raise ToolNotFound(tool_id)
    newest = (await connection.execute(_NEWEST, key)).one()
    if newest.definition == definition:
        return StoredVersion(newest.version, created=False)
    await _insert_version(connection, organization_id, tool_id, newest.version + 1, definition)
    return StoredVersion(newest.version + 1, created=True)


async def get_tool(
    connection: AsyncConnection, *, organization_id: UUID, tool_id: UUID, version: int | None = None
) -> Tool:
    """A tool in its newest version, or in the one of that number.

    Raises:
        ToolNotFound: when the organization has no such tool, or it has no such version.
    """
    key: dict[str, object] = {"organization_id": organization_id, "tool_id": tool_id}
    if version is None:
        result = await connection.execute(_NEWEST, key)
    else:
        result = await connection.execute(_NUMBERED, {**key, "version": version})
    row = result.one_or_none()
    if row is None:
        raise ToolNotFound(tool_id)
    return Tool(*row)


async def list_tools(
    connection: AsyncConnection, *, organization_id: UUID, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[Tool]:
    """The organization's tools, newest first; `after` is the last one's `(created_at, id)` of the page before."""
    values: dict[str, object] = {"organization_id": organization_id, "limit": limit}
    if after is None:
        result = await connection.execute(_LIST, values)
    else:
        result = await connection.execute(_LIST_AFTER, {**values, "created_at": after[0], "id": after[1]})
    return [Tool(*row) for row in result]


async def delete_tool(connection: AsyncConnection, *, organization_id: UUID, tool_id: UUID) -> None:
    """Let no new definition use a tool. Definitions that pin it go on as before.

    Raises:
        ToolNotFound: when the organization has no such tool.
    """
    if await connection.scalar(_DELETE, {"of_organization": organization_id, "of_id": tool_id}) is None:
        raise ToolNotFound(tool_id)


async def usable_tools(
    connection: AsyncConnection, *, organization_id: UUID, tool_ids: Collection[UUID]
) -> dict[UUID, Tool]:
    """Those of the tools that a new definition may use, each in its newest version."""
    rows = await connection.execute(_USABLE, {"organization_id": organization_id, "tool_ids": list(tool_ids)})
    return {row.id: Tool(*row) for row in rows}


async def newest_tools(
    connection: AsyncConnection, *, organization_id: UUID, tool_ids: Collection[UUID]
) -> dict[UUID, Tool]:
    """The tools in their newest versions, for definitions that use them already: deleted ones are among them."""
    rows = await connection.execute(_NEWEST_OF_EACH, {"organization_id": organization_id, "tool_ids": list(tool_ids)})
    return {row.id: Tool(*row) for row in rows}


async def pinned_tools(
    connection: AsyncConnection, *, organization_id: UUID, pins: Collection[tuple[UUID, int]]
) -> dict[UUID, Tool]:
    """The tools in exactly these versions: pairs of a tool's id and a version. Deleted ones are among them."""
    rows = await connection.execute(_EXACT, {"organization_id": organization_id, "pins": list(pins)})
    return {row.id: Tool(*row) for row in rows}


async def _insert_version(
    connection: AsyncConnection, organization_id: UUID, tool_id: UUID, version: int, definition: Mapping[str, JsonValue]
) -> None:
    await connection.execute(
        _INSERT_VERSION,
        {
            "organization_id": organization_id,
            "tool_id": tool_id,
            "version": version,
            "definition": dict(definition),
        },
    )
