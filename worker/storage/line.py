"""The line of a session: its turns that are pending or running, in the order they were enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

AT_HEAD_OF_LINE: Final = """
    NOT EXISTS (
        SELECT 1 FROM turns AS earlier
        WHERE earlier.session_id = turns.session_id
          AND earlier.status IN ('pending', 'running')
          AND earlier.position < turns.position
    )
"""
"""Part of a statement: nothing stands before the row of `turns` in its session's line."""

LEASE_EXPIRY: Final = """
    greatest(turns.lease_expires_at, pg_postmaster_start_time() + make_interval(secs => :lease_seconds))
"""
"""Part of a statement: when the lease of a running turn counts as expired, unless it is renewed. An expiry within one lease
after the database itself started proves nothing: nobody could renew while it was away."""

_CLAIMABLE = text("""
    SELECT id FROM (
        SELECT id, status, available_at FROM turns
        WHERE session_id = :session_id AND organization_id = :organization_id AND status IN ('pending', 'running')
        ORDER BY position
        LIMIT 1
    ) AS head
    WHERE status = 'pending' AND available_at <= now()
""")
_LINE = text("""
    SELECT id, status, opening, attempt, user_messages, external_id, metadata, retry_of_turn_id, carries_over_turn_id
    FROM turns
    WHERE session_id = :session_id AND organization_id = :organization_id AND status IN ('pending', 'running')
    ORDER BY position
""")


async def claimable_turn(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> UUID | None:
    """The turn at the head of a session's line if it can be claimed now.

    Whoever changed a line asks this after the commit: only then does the answer include what others committed meanwhile.
    """
    turn_id: UUID | None = await connection.scalar(
        _CLAIMABLE, {"session_id": session_id, "organization_id": organization_id}
    )
    return turn_id


async def read_line(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> Sequence[Row[Any]]:
    """The turns that are pending or running, in line order. While the session is locked, it stays like that."""
    result = await connection.execute(_LINE, {"session_id": session_id, "organization_id": organization_id})
    return result.all()
