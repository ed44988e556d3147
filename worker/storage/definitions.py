"""Stored definitions, as a turn needs them: by id. They never change, so one that was read may be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from worker.storage.schema import workflow_definitions

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

_DEFINITION = select(workflow_definitions.c.definition).where(
    workflow_definitions.c.id == bindparam("definition_id"),
    workflow_definitions.c.organization_id == bindparam("organization_id"),
)


async def get_definition(connection: AsyncConnection, *, organization_id: UUID, definition_id: UUID) -> dict[str, Any]:
    """The definition's JSON as it was given when it was stored."""
    result = await connection.execute(_DEFINITION, {"definition_id": definition_id, "organization_id": organization_id})
    definition: dict[str, Any] = result.scalar_one()
    return definition
