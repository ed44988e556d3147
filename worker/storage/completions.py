"""The work that is done once when a session ends: claimed, fenced and retried much as a turn is.

It is written down by the transaction that ends the session, so that it is neither lost nor done for a session that goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from uuid_utils.compat import uuid7

from worker.storage.database import to_json
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class SessionReference:
    """All that a message of the queue carries of a session."""

    organization_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class ClaimedCompletion:
    """What a worker gets to know by claiming the work at a session's end.

    Attributes:
        id: Names everything the work does to others, however often it is tried.
        attempt: The fencing token of everything it writes.
        turn_id: The turn that ended the session; None where it was ended from outside.
        gathered_context: What the conversation had learned after the final extraction; None if that is still to be done.
        session_checkpoint: What the session began with, if it is a fork and the final extraction is still to be done.
    """

    id: UUID
    organization_id: UUID
    session_id: UUID
    definition_id: UUID
    attempt: int
    turn_id: UUID | None
    gathered_context: dict[str, JsonValue] | None
    model_defaults: dict[str, Any] | None
    organization_settings: dict[str, Any]
    session_checkpoint: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How the webhook of one node fares.

    Attributes:
        status: `retrying`, `delivered` or `failed`.
        attempts: How often it was sent.
        status_code: The status of the last answer; None if there was none.
        error: Why the last attempt failed.
        due_in_seconds: How long it is until it is tried again, if it is.
    """

    node_id: str
    status: str
    attempts: int
    status_code: int | None = None
    error: str | None = None
    due_in_seconds: float | None = None


# Only where there may be something to do. The definition is searched as it is written, because PostgreSQL cannot take JSON
# apart that holds what its text cannot. Quotes within a text are escaped, so what is found is a member and no text.
_PLAN = text("""
    INSERT INTO session_completions (id, organization_id, session_id, turn_id)
    SELECT :id, sessions.organization_id, sessions.id, CAST(:turn_id AS uuid)
    FROM sessions
    JOIN workflow_definitions AS used
      ON used.id = sessions.definition_id AND used.organization_id = sessions.organization_id
    WHERE sessions.id = :session_id
      AND sessions.organization_id = :organization_id
      AND (
        CAST(used.definition AS text) ~ '"type"\\s*:\\s*"webhook"'
        OR (CAST(:turn_id AS uuid) IS NULL AND CAST(used.definition AS text) ~ '"extraction_enabled"\\s*:\\s*true')
      )
    ON CONFLICT DO NOTHING
""")
_CLAIM = text("""
    WITH claimed AS (
        UPDATE session_completions
        SET status = 'running',
            attempt = attempt + 1,
            claimed_by = :claimed_by,
            lease_expires_at = now() + make_interval(secs => :lease_seconds)
        WHERE session_id = :session_id
          AND organization_id = :organization_id
          AND (
            (status = 'pending' AND available_at <= now())
            OR (status = 'running' AND lease_expires_at < now())
          )
        RETURNING id, session_id, turn_id, attempt, gathered_context
    )
    SELECT
        claimed.*, sessions.definition_id, organizations.model_defaults, organizations.settings,
        CASE WHEN claimed.turn_id IS NULL AND claimed.gathered_context IS NULL THEN sessions.checkpoint END AS checkpoint
    FROM claimed
    JOIN sessions ON sessions.id = claimed.session_id AND sessions.organization_id = :organization_id
    JOIN organizations ON organizations.id = :organization_id
""")
_MINE = """
    id = :id AND organization_id = :organization_id AND attempt = :attempt AND status = 'running'
"""
# What `written` returned is its session's to report.
_RECORDED = f"""
    numbered AS (
        UPDATE sessions SET last_sequence = last_sequence + :event_count
        FROM written
        WHERE sessions.id = written.session_id AND sessions.organization_id = written.organization_id
        RETURNING sessions.organization_id, sessions.id, sessions.revision, sessions.last_sequence
    ), recorded AS ({RECORD_EVENTS})
    SELECT last_sequence, revision, now() AS now FROM numbered
"""
_LEARN = text(f"""
    WITH written AS (
        UPDATE session_completions SET gathered_context = CAST(:gathered_context AS json)
        WHERE {_MINE}
        RETURNING session_id, organization_id
    ), {_RECORDED}
""")
_DELIVERIES = text("""
    SELECT
        node_id, status, attempts, status_code, error,
        CASE WHEN next_attempt_at IS NOT NULL THEN
            CAST(greatest(0, extract(epoch FROM next_attempt_at - now())) AS double precision)
        END AS due_in_seconds
    FROM webhook_deliveries
    WHERE completion_id = :id AND organization_id = :organization_id
""")
_END = text(f"""
    WITH written AS (
        UPDATE session_completions
        SET status = :status,
            lease_expires_at = NULL,
            rung_at = NULL,
            available_at = now() + make_interval(secs => :delay_seconds),
            error = CAST(:error AS json),
            ended_at = CASE WHEN :status = 'pending' THEN NULL ELSE now() END
        WHERE {_MINE}
        RETURNING session_id, organization_id
    ), delivered AS (
        INSERT INTO webhook_deliveries
            (organization_id, completion_id, node_id, status, attempts, status_code, error, updated_at, next_attempt_at)
        SELECT
            written.organization_id, :id, node_id, delivery.status, attempts, status_code, delivery.error, now(),
            now() + make_interval(secs => due_in_seconds)
        FROM written, json_to_recordset(CAST(:deliveries AS json)) AS delivery (
            node_id text, status text, attempts integer, status_code integer, error text, due_in_seconds double precision
        )
        ON CONFLICT (completion_id, node_id) DO UPDATE
        SET status = EXCLUDED.status,
            attempts = EXCLUDED.attempts,
            status_code = EXCLUDED.status_code,
            error = EXCLUDED.error,
            updated_at = EXCLUDED.updated_at,
            next_attempt_at = EXCLUDED.next_attempt_at
    ), {_RECORDED}
""")
_TAKE_OVERDUE = text("""
    UPDATE session_completions SET rung_at = now()
    WHERE id IN (
        SELECT id FROM session_completions
        WHERE status IN ('pending', 'running')
          AND (
            (status = 'pending' AND available_at < now() - make_interval(secs => :after_seconds))
            OR (status = 'running' AND lease_expires_at < now())
          )
          AND (rung_at IS NULL OR rung_at < now() - make_interval(secs => :again_seconds))
        ORDER BY available_at
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
    RETURNING organization_id, session_id
""")


async def plan_completion(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID, turn_id: UUID | None
) -> None:
    """Write down, in the transaction that ends a session, that there is work to do at its end, if there is any.

    Args:
        turn_id: The turn that ended it; None where it is ended from outside.
    """
    values = {"id": uuid7(), "organization_id": organization_id, "session_id": session_id, "turn_id": turn_id}
    await connection.execute(_PLAN, values)


async def claim_completion(
    connection: AsyncConnection, session: SessionReference, *, claimed_by: str, lease_seconds: float
) -> ClaimedCompletion | None:
    """Take on the work at a session's end: one that waits, or one whose lease has expired. None if there is none to take."""
    result = await connection.execute(
        _CLAIM,
        {
            "organization_id": session.organization_id,
            "session_id": session.session_id,
            "claimed_by": claimed_by,
            "lease_seconds": lease_seconds,
        },
    )
    row = result.one_or_none()
    if row is None:
        return None
    return ClaimedCompletion(
        id=row.id,
        organization_id=session.organization_id,
        session_id=session.session_id,
        definition_id=row.definition_id,
        attempt=row.attempt,
        turn_id=row.turn_id,
        gathered_context=row.gathered_context,
        model_defaults=row.model_defaults,
        organization_settings=row.settings,
        session_checkpoint=row.checkpoint,
    )


async def read_deliveries(connection: AsyncConnection, claimed: ClaimedCompletion) -> dict[str, Delivery]:
    """How the webhooks have fared so far, by node."""
    result = await connection.execute(_DELIVERIES, {"id": claimed.id, "organization_id": claimed.organization_id})
    return {row["node_id"]: Delivery(**row) for row in result.mappings()}


async def keep_gathered_context(
    connection: AsyncConnection,
    claimed: ClaimedCompletion,
    gathered_context: Mapping[str, JsonValue],
    events: Sequence[NewEvent] = (),
) -> tuple[RecordedEvent, ...] | None:
    """Keep what the final extraction learned, so that it is not done again and the session shows it.

    Returns:
        The events as they were recorded; None if this attempt is over, and nothing was written.
    """
    values = {**_fence(claimed), **event_parameters(events), "gathered_context": to_json(gathered_context)}
    return _recorded(claimed, events, (await connection.execute(_LEARN, values)).one_or_none())


async def end_attempt(
    connection: AsyncConnection,
    claimed: ClaimedCompletion,
    *,
    deliveries: Sequence[Delivery],
    events: Sequence[NewEvent],
    again_in_seconds: float | None = None,
    error: Mapping[str, JsonValue] | None = None,
) -> tuple[RecordedEvent, ...]:
    """`running -> completed`, or `failed` with an error, or `pending` to be tried again after a pause.

    Args:
        deliveries: Those that this attempt tried.
        events: What is then known of the session's end.
        again_in_seconds: The pause; None if the work is over.
        error: Why it is given up.

    Returns:
        The events as they were recorded; none if this attempt is over, and nothing was written.
    """
    status = "pending" if again_in_seconds is not None else "failed" if error is not None else "completed"
    result = await connection.execute(
        _END,
        {
            **_fence(claimed),
            **event_parameters(events),
            "status": status,
            "delay_seconds": again_in_seconds or 0.0,
            "error": None if error is None else to_json(error),
            "deliveries": to_json([asdict(delivery) for delivery in deliveries]),
        },
    )
    return _recorded(claimed, events, result.one_or_none()) or ()


async def take_overdue_completions(
    connection: AsyncConnection, *, after_seconds: float, again_seconds: float, batch: int
) -> list[SessionReference]:
    """Sessions of all organizations whose work could be done but is not, each noted as rung now.

    Several sweeps at once take different ones.
    """
    values = {"after_seconds": after_seconds, "again_seconds": again_seconds, "batch": batch}
    rows = await connection.execute(_TAKE_OVERDUE, values)
    return [SessionReference(row.organization_id, row.session_id) for row in rows]


def _recorded(claimed: ClaimedCompletion, events: Sequence[NewEvent], row: Any) -> tuple[RecordedEvent, ...] | None:
    if row is None:
        return None
    return recorded_events(
        events,
        organization_id=claimed.organization_id,
        session_id=claimed.session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )


def _fence(claimed: ClaimedCompletion) -> dict[str, Any]:
    return {"id": claimed.id, "organization_id": claimed.organization_id, "attempt": claimed.attempt}
