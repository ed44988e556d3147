"""That a session fetched further initial context, and what: written at once, under the fence of the attempt that did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.storage.attempts import LeaseLost
from worker.storage.database import to_json
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.claim import Attempt

_KEEP = text(f"""
    WITH session AS (
        SELECT id FROM sessions WHERE id = :session_id AND organization_id = :organization_id FOR UPDATE
    ), mine AS (
        SELECT turns.id FROM turns, session
        WHERE turns.id = :turn_id
          AND turns.organization_id = :organization_id
          AND turns.session_id = session.id
          AND turns.attempt = :attempt
          AND turns.status = 'running'
        FOR SHARE OF turns
    ), numbered AS (
        UPDATE sessions
        SET initial_context = CAST(:initial_context AS json),
            fetched_at = now(),
            last_sequence = last_sequence + :event_count
        FROM mine
        WHERE sessions.id = :session_id AND sessions.organization_id = :organization_id
        RETURNING sessions.organization_id, sessions.id, sessions.revision, sessions.last_sequence
    ), recorded AS ({RECORD_EVENTS})
    SELECT last_sequence, revision, now() AS now FROM numbered
""")


async def keep_fetch(
    connection: AsyncConnection, attempt: Attempt, *, initial_context: Mapping[str, JsonValue], event: NewEvent
) -> tuple[RecordedEvent, ...]:
    """Note that the fetch was made, whether or not it succeeded, with the initial context after it.

    Raises:
        LeaseLost: when this attempt no longer holds the turn; nothing was written.
    """
    result = await connection.execute(
        _KEEP,
        {
            "organization_id": attempt.organization_id,
            "session_id": attempt.session_id,
            "turn_id": attempt.turn_id,
            "attempt": attempt.attempt,
            "initial_context": to_json(initial_context),
            **event_parameters([event]),
        },
    )
    row = result.one_or_none()
    if row is None:
        raise LeaseLost(attempt.turn_id, attempt.attempt)
    return recorded_events(
        [event],
        organization_id=attempt.organization_id,
        session_id=attempt.session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )
