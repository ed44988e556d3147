"""Which revision of the schema a database has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_APPLIED_REVISION = text("SELECT version_num FROM alembic_version")


async def applied_revision(connection: AsyncConnection) -> str | None:
    """The revision of the database's schema; None if no migration was ever applied."""
    try:
        revision: str | None = await connection.scalar(_APPLIED_REVISION)
    except ProgrammingError:
        return None
    return revision
