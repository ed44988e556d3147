"""Erasing what conversations leave behind: all at once when somebody asks for it, bit by bit when it has grown old.

The ledger of usage stays, for the books: it holds counts and ids, nothing that anybody said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from worker.storage.cancel import Cancellation, cancel_turns, cancelled_events
from worker.storage.outbox import NewEvent
from worker.storage.session_events import record_events
from worker.storage.session_lock import lock_session
from worker.workflow.organization_settings import OrganizationSettings

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.outbox import RecordedEvent
    from worker.workflow.organization_settings import Retention

_ERASED: Final = Cancellation(
    "session_erased", "The session was erased before this turn was answered.", retryable=False
)


@dataclass(frozen=True, slots=True)
class ErasedSession:
    """What there is still to do about a session that is gone.

    Attributes:
        events: To be published, so that whoever runs, waits or listens hears of the end. They stand in no log.
        turn_ids: The turns it had.
    """

    events: tuple[RecordedEvent, ...]
    turn_ids: tuple[UUID, ...]


# A kept answer shows what it answered about: those to requests about the session or its turns, and the one that created it.
_ERASE_ANSWERS: Final = text("""
    DELETE FROM idempotency_keys
    WHERE organization_id = :organization_id
      AND (
        starts_with(path, '/v1/sessions/' || CAST(:session_id AS uuid) || '/')
        OR headers ->> 'Location' = '/v1/sessions/' || CAST(:session_id AS uuid)
        OR split_part(path, '/', 4) IN (
            SELECT CAST(id AS text) FROM turns WHERE session_id = :session_id AND organization_id = :organization_id
        )
      )
""")
_OF_ITS_TURNS: Final = """
    organization_id = :organization_id
    AND turn_id IN (SELECT id FROM turns WHERE session_id = :session_id AND organization_id = :organization_id)
"""
_OF_ITS_OWN: Final = "organization_id = :organization_id AND session_id = :session_id"

_OF_ITS_END: Final = f"""
    organization_id = :organization_id
    AND completion_id IN (SELECT id FROM session_completions WHERE {_OF_ITS_OWN})
"""

CONTENT: Final = {
    "webhook_deliveries": _OF_ITS_END,
    "session_completions": _OF_ITS_OWN,
    "journal_steps": _OF_ITS_TURNS,
    "messages": _OF_ITS_TURNS,
    "outbox": _OF_ITS_OWN,
    "turns": _OF_ITS_OWN,
    "sessions": "organization_id = :organization_id AND id = :session_id",
}
"""The tables that hold something of a session, in an order in which nothing refers to what is gone, and which rows are its."""

_TURNS = text(f"SELECT id FROM turns WHERE {_OF_ITS_OWN}")
_ERASE: Final = [text(f"DELETE FROM {table} WHERE {rows}") for table, rows in CONTENT.items()]

_DAY_SECONDS: Final = 24 * 3600
_EXPIRED_SESSIONS = text("""
    SELECT id FROM sessions
    WHERE organization_id = :organization_id
      AND created_at < now() - make_interval(secs => :age_seconds)
      AND coalesce(ended_at, created_at) < now() - make_interval(secs => :age_seconds)
      AND NOT EXISTS (
        SELECT FROM turns
        WHERE turns.session_id = sessions.id
          AND (turns.ended_at IS NULL OR turns.ended_at > now() - make_interval(secs => :age_seconds))
      )
    ORDER BY created_at
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
""")
_EXPIRED_EVENTS = text("""
    DELETE FROM outbox
    WHERE (session_id, sequence) IN (
        SELECT session_id, sequence FROM outbox
        WHERE organization_id = :organization_id
          AND created_at < now() - make_interval(secs => :age_seconds)
          AND published_at IS NOT NULL
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
""")
_EXPIRED_JOURNALS = text("""
    DELETE FROM journal_steps
    WHERE (turn_id, number) IN (
        SELECT journal_steps.turn_id, journal_steps.number
        FROM journal_steps JOIN turns ON turns.id = journal_steps.turn_id
        WHERE journal_steps.organization_id = :organization_id
          AND journal_steps.created_at < now() - make_interval(secs => :age_seconds)
          AND turns.ended_at < now() - make_interval(secs => :age_seconds)
        LIMIT :batch
        FOR UPDATE OF journal_steps SKIP LOCKED
    )
""")
_WITH_RETENTION = text("SELECT id, settings FROM organizations WHERE settings ->> 'retention' IS NOT NULL ORDER BY id")


async def erase_session(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> ErasedSession:
    """Erase a session with its turns, messages, events and the answers kept for repeated requests, and cancel what runs.

    A running attempt finds that its turn is gone, and can write nothing any more. A fork does not depend on its source.

    Raises:
        SessionNotFound: when the organization has no such session, or none any more.
    """
    session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
    names = {"organization_id": organization_id, "session_id": session_id}
    cancelled = await cancel_turns(
        connection, organization_id=organization_id, session_id=session_id, cancellation=_ERASED
    )
    events = cancelled_events(cancelled, _ERASED)
    if session.state == "running":
        events.append(NewEvent("session.ended", None, {"reason": _ERASED.code}, raises_revision=True))
    recorded = await record_events(connection, **names, events=events)
    turn_ids = (await connection.scalars(_TURNS, names)).all()
    for statement in (_ERASE_ANSWERS, *_ERASE):
        await connection.execute(statement, names)
    return ErasedSession(recorded.events, tuple(turn_ids))


async def erase_expired_sessions(connection: AsyncConnection, *, organization_id: UUID, days: int, batch: int) -> int:
    """Erase up to `batch` sessions in which nothing has happened for so many days, and return how many it were.

    One with a turn that is not over is left alone, and so is one that somebody else has locked.
    """
    limits = {"organization_id": organization_id, "age_seconds": days * _DAY_SECONDS, "batch": batch}
    session_ids = (await connection.scalars(_EXPIRED_SESSIONS, limits)).all()
    for session_id in session_ids:
        await erase_session(connection, organization_id=organization_id, session_id=session_id)
    return len(session_ids)


async def erase_expired_events(connection: AsyncConnection, *, organization_id: UUID, days: int, batch: int) -> int:
    """Erase up to `batch` published events older than so many days, and return how many it were."""
    limits = {"organization_id": organization_id, "age_seconds": days * _DAY_SECONDS, "batch": batch}
    return (await connection.execute(_EXPIRED_EVENTS, limits)).rowcount


async def erase_expired_journals(connection: AsyncConnection, *, organization_id: UUID, days: int, batch: int) -> int:
    """Erase up to `batch` journalled steps of turns that ended so many days ago, and return how many it were."""
    limits = {"organization_id": organization_id, "age_seconds": days * _DAY_SECONDS, "batch": batch}
    return (await connection.execute(_EXPIRED_JOURNALS, limits)).rowcount


async def organizations_with_retention(connection: AsyncConnection) -> list[tuple[UUID, Retention]]:
    """The organizations that keep something for a limited time only, each with for how long."""
    rows = await connection.execute(_WITH_RETENTION)
    return [(row.id, OrganizationSettings.model_validate(row.settings).retention) for row in rows]
