"""Stored definitions, as a turn needs them: by id. They never change, so one that was read may be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from worker.storage.schema import workflow_definitions

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

_DEFINITION = select(workflow_definitions.c.definition, workflow_definitions.c.tool_pins).where(
    workflow_definitions.c.id == bindparam("definition_id"),
    workflow_definitions.c.organization_id == bindparam("organization_id"),
)


@dataclass(frozen=True, slots=True)
class PinnedDefinition:
    """A definition as it was stored.

    Attributes:
        document: Its JSON as it was given.
        tool_pins: The version of each of its tools, by the tool's id.
    """

    document: dict[str, Any]
    tool_pins: dict[str, int]


async def get_definition(
    connection: AsyncConnection, *, organization_id: UUID, definition_id: UUID
) -> PinnedDefinition:
    """Read a definition with its pins."""
    result = await connection.execute(_DEFINITION, {"definition_id": definition_id, "organization_id": organization_id})
    return PinnedDefinition(*result.one())
