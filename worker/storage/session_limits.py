"""Sessions that end by themselves: nobody has said a word for too long, or they go on for too long.

When to look at a session again stands in its row and is only moved by looking: a turn need not touch it. A look that comes too
early finds by the session's log when something last happened, and puts itself off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from worker.storage.sessions import end_session

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.sessions import EndedSession

USER_IDLE: Final = "user_idle_max_duration_exceeded"
"""Why a session ends in which nobody has said a word for too long."""

MAX_DURATION: Final = "session_max_duration_exceeded"
"""Why a session ends that went on for too long."""

# While a turn is pending or running, a session that is to end is looked at again after this long.
_LOOK_AGAIN_SECONDS: Final = 5.0

# Locked sessions are left to the next sweep: something is happening in them.
_EXCEEDED = text("""
    WITH overdue AS (
        SELECT sessions.* FROM sessions
        WHERE state = 'running' AND check_limits_at < now()
        ORDER BY check_limits_at
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    ), looked AS (
        SELECT
            overdue.id,
            overdue.organization_id,
            overdue.created_at + make_interval(secs => overdue.duration_limit_seconds) AS ends_at,
            greatest(
                overdue.created_at,
                (
                    SELECT outbox.created_at FROM outbox
                    WHERE outbox.session_id = overdue.id ORDER BY outbox.sequence DESC LIMIT 1
                ),
                -- Events may be kept for a shorter time than the user is waited for.
                (
                    SELECT greatest(turns.created_at, turns.ended_at) FROM turns
                    WHERE turns.session_id = overdue.id ORDER BY turns.position DESC NULLS LAST LIMIT 1
                )
            ) + make_interval(secs => overdue.idle_limit_seconds) AS idle_at,
            EXISTS (
                SELECT 1 FROM turns WHERE turns.session_id = overdue.id AND turns.status IN ('pending', 'running')
            ) AS busy,
            EXISTS (
                SELECT 1 FROM turns WHERE turns.session_id = overdue.id AND turns.status = 'scheduled'
            ) AS awaited
        FROM overdue
    ), judged AS (
        SELECT
            looked.*,
            CASE
                WHEN busy THEN NULL
                WHEN ends_at <= now() THEN CAST(:max_duration AS text)
                WHEN idle_at <= now() AND NOT awaited THEN CAST(:user_idle AS text)
            END AS reason
        FROM looked
    ), put_off AS (
        UPDATE sessions
        SET check_limits_at = greatest(least(judged.ends_at, judged.idle_at), now() + make_interval(secs => :again_seconds))
        FROM judged
        WHERE sessions.id = judged.id AND sessions.organization_id = judged.organization_id AND judged.reason IS NULL
    )
    SELECT id, organization_id, reason FROM judged WHERE reason IS NOT NULL
""")


async def end_exceeded_sessions(connection: AsyncConnection, *, batch: int) -> list[EndedSession]:
    """End up to `batch` sessions that exceeded a limit of their definition, over all organizations.

    Never one with a turn that is pending or running. One in which a turn is scheduled is not idle.
    """
    rows = await connection.execute(
        _EXCEEDED,
        {
            "batch": batch,
            "max_duration": MAX_DURATION,
            "user_idle": USER_IDLE,
            "again_seconds": _LOOK_AGAIN_SECONDS,
        },
    )
    # Their rows stay locked by this transaction, so what was found stays true.
    return [
        await end_session(connection, organization_id=row.organization_id, session_id=row.id, reason=row.reason)
        for row in rows.all()
    ]
