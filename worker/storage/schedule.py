"""Scheduled turns: stored now, in line later.

Until its time comes a turn has no place in its session's line, holds nothing up and counts as nothing that is pending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.errors import TurnWorkerError
from worker.storage.database import to_json
from worker.storage.outbox import NewEvent, RecordedEvent
from worker.storage.session_events import record_events
from worker.storage.session_lock import check_revision, lock_session, refuse_ended

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.enqueue import NewTurn


class ScheduledTooFarAhead(TurnWorkerError):
    """The time named lies beyond how far ahead turns may be scheduled."""

    code = "scheduled_too_far_ahead"

    def __init__(self, not_before: datetime, horizon_seconds: float) -> None:
        super().__init__(not_before, horizon_seconds)
        self.not_before = not_before
        self.horizon_seconds = horizon_seconds

    def __str__(self) -> str:
        return (
            f"`not_before` is {self.not_before.isoformat()}, but turns are scheduled at most "
            f"{self.horizon_seconds / 86_400:g} days ahead. Name an earlier time."
        )


@dataclass(frozen=True, slots=True)
class ScheduledTurn:
    """A turn as it was just scheduled."""

    turn_id: UUID
    revision: int
    events: tuple[RecordedEvent, ...]


_SCHEDULE = text("""
    INSERT INTO turns (
        id, organization_id, session_id, status, not_before, available_at, user_messages, external_id, metadata, priority,
        trace_context
    )
    VALUES (
        :turn_id, :organization_id, :session_id, 'scheduled', :not_before, :not_before, CAST(:user_messages AS json),
        :external_id, CAST(:metadata AS json), :priority, CAST(:trace_context AS json)
    )
""")

# Sessions in which something happens just now are left to the next sweep, so that a sweep waits for nobody.
_LOCK_DUE = text("""
    SELECT id FROM sessions
    WHERE id IN (
        SELECT session_id FROM turns WHERE status = 'scheduled' AND not_before <= now() ORDER BY not_before LIMIT :batch
    )
    FOR UPDATE SKIP LOCKED
""")
_RELEASE = text("""
    WITH due AS (
        SELECT
            id, organization_id, session_id,
            row_number() OVER (PARTITION BY session_id ORDER BY not_before, id) AS number
        FROM turns
        WHERE session_id = ANY(:session_ids) AND status = 'scheduled' AND not_before <= now()
    ), counted AS (
        SELECT organization_id, session_id, count(*) AS turns FROM due GROUP BY organization_id, session_id
    ), numbered AS (
        UPDATE sessions
        SET last_position = last_position + counted.turns,
            revision = revision + counted.turns,
            last_sequence = last_sequence + counted.turns
        FROM counted
        WHERE sessions.id = counted.session_id AND sessions.organization_id = counted.organization_id
        RETURNING sessions.id, counted.turns, last_position, revision, last_sequence
    ), placed AS (
        SELECT
            due.id,
            due.organization_id,
            due.session_id,
            numbered.last_position - numbered.turns + due.number AS position,
            numbered.revision - numbered.turns + due.number AS revision,
            numbered.last_sequence - numbered.turns + due.number AS sequence
        FROM due JOIN numbered ON numbered.id = due.session_id
    ), released AS (
        UPDATE turns SET status = 'pending', position = placed.position, available_at = now()
        FROM placed
        WHERE turns.id = placed.id AND turns.organization_id = placed.organization_id
    ), recorded AS (
        INSERT INTO outbox (organization_id, session_id, sequence, turn_id, type, revision)
        SELECT organization_id, session_id, sequence, id, 'turn.enqueued', revision FROM placed
    )
    SELECT placed.*, now() AS now FROM placed ORDER BY session_id, sequence
""")
_SECONDS_TO_NEXT = text("""
    SELECT CAST(extract(epoch FROM min(not_before) - now()) AS double precision) FROM turns WHERE status = 'scheduled'
""")


async def schedule_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    turn: NewTurn,
    not_before: datetime,
    horizon_seconds: float,
    expected_revision: int | None = None,
) -> ScheduledTurn:
    """Store a turn that takes its place at the end of its session's line when its time comes; at once if that is past.

    Raises:
        SessionNotFound: when the organization has no such session.
        SessionEnded: when the session is over.
        RevisionConflict: when `expected_revision` is given and is not the session's.
        ScheduledTooFarAhead: when the time is more than `horizon_seconds` away.
    """
    where: Any = {"organization_id": organization_id, "session_id": session_id}
    session = await lock_session(connection, **where)
    refuse_ended(session)
    check_revision(session, expected_revision)
    if (not_before - session.now).total_seconds() > horizon_seconds:
        raise ScheduledTooFarAhead(not_before, horizon_seconds)
    await connection.execute(
        _SCHEDULE,
        {
            **where,
            "turn_id": turn.turn_id,
            "not_before": not_before,
            "user_messages": to_json(list(turn.user_messages)),
            "external_id": turn.external_id,
            "metadata": to_json(dict(turn.metadata)),
            "priority": turn.priority,
            "trace_context": to_json(dict(turn.trace_context)) if turn.trace_context else None,
        },
    )
    scheduled = NewEvent("turn.scheduled", turn.turn_id, {"not_before": not_before.isoformat()}, raises_revision=True)
    recorded = await record_events(connection, **where, events=[scheduled])
    if not_before > session.now:
        return ScheduledTurn(turn.turn_id, recorded.revision, recorded.events)
    # Others of the session may be due as well.
    released = await _release(connection, [session_id])
    return ScheduledTurn(turn.turn_id, recorded.revision + len(released), (*recorded.events, *released))


async def release_due_turns(connection: AsyncConnection, *, batch: int) -> tuple[RecordedEvent, ...]:
    """Give those turns their place in line whose time has come, up to `batch` sessions at once, and return what was recorded."""
    locked = (await connection.scalars(_LOCK_DUE, {"batch": batch})).all()
    return await _release(connection, locked) if locked else ()


async def seconds_to_next(connection: AsyncConnection) -> float | None:
    """How long it is until the next scheduled turn's time comes, over all organizations; None if there is none."""
    seconds: float | None = await connection.scalar(_SECONDS_TO_NEXT)
    return seconds


async def _release(connection: AsyncConnection, session_ids: Sequence[UUID]) -> tuple[RecordedEvent, ...]:
    rows = await connection.execute(_RELEASE, {"session_ids": list(session_ids)})
    return tuple(
        RecordedEvent(
            row.organization_id, row.session_id, row.sequence, row.id, "turn.enqueued", {}, row.revision, row.now
        )
        for row in rows
    )
