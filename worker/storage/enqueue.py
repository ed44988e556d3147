"""Enqueueing: a turn becomes a row, and with that it will be answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from uuid_utils.compat import uuid7

from worker.storage.backlog import ROOM_FOR_ONE_MORE
from worker.storage.database import to_json
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events
from worker.storage.session_lock import RevisionConflict, SessionEnded, lock_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.conversation.user_message import UserMessage


@dataclass(frozen=True, slots=True)
class EnqueuedTurn:
    """A pending turn as it was just written.

    Attributes:
        position: Its place in its session's line, from 1.
        revision: The session's revision since then.
        claimable: Nothing stood before it when it was written. If something did, that may be over by the time of the commit.
        rung: It is claimable, and a worker has room for it: it is noted as rung, and the caller rings.
        session_external_id: What its caller calls the session.
    """

    turn_id: UUID
    session_id: UUID
    position: int
    revision: int
    claimable: bool
    rung: bool
    created_at: datetime
    events: tuple[RecordedEvent, ...]
    session_external_id: str | None = None


# The update takes the lock on the session's row, and the place in its line, the revision and the event's number with it.
_ENQUEUE = text(f"""
    WITH numbered AS (
        UPDATE sessions
        SET last_position = last_position + 1, revision = revision + 1, last_sequence = last_sequence + 1
        WHERE id = :session_id
          AND organization_id = :organization_id
          AND state = 'running'
          AND revision = coalesce(CAST(:expected_revision AS integer), revision)
        RETURNING organization_id, id, external_id, last_position, revision, last_sequence
    ), line AS (
        SELECT NOT EXISTS (
            SELECT 1 FROM turns AS earlier
            WHERE earlier.session_id = :session_id AND earlier.status IN ('pending', 'running')
        ) AS claimable
    ), place AS (
        SELECT claimable, CASE WHEN claimable THEN {ROOM_FOR_ONE_MORE} ELSE false END AS rung FROM line
    ), turn AS (
        INSERT INTO turns (
            id, organization_id, session_id, position, opening, user_messages, external_id, metadata,
            trace_context, priority, waiting, rung_at
        )
        SELECT
            :turn_id, organization_id, id, last_position, :opening, CAST(:user_messages AS json),
            CAST(:external_id AS text), CAST(:metadata AS json),
            CAST(:trace_context AS json), :priority, claimable AND NOT rung, CASE WHEN rung THEN now() END
        FROM numbered, place
    ), recorded AS ({RECORD_EVENTS})
    SELECT
        last_position,
        revision,
        last_sequence,
        external_id,
        now() AS now,
        claimable,
        rung
    FROM numbered, place
""")


async def enqueue_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    user_messages: Sequence[UserMessage] = (),
    opening: bool = False,
    external_id: str | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
    expected_revision: int | None = None,
    priority: int = 0,
    trace_context: Mapping[str, str] | None = None,
) -> EnqueuedTurn:
    """Write a pending turn at the end of its session's line.

    After the commit, and only then, the caller publishes `events` and rings: for the turn if it is `rung`, else for whichever
    turns `choose_turns` then names.

    Args:
        priority: Of the turns of its organization that wait for a worker, those with a higher one go first. Inside a session
            the order of the line beats it.
        trace_context: The W3C trace context of whoever asks for the turn; its spans link to it.

    Raises:
        SessionNotFound: when the organization has no such session.
        SessionEnded: when the session is over.
        RevisionConflict: when `expected_revision` is given and is not the session's.
    """
    turn_id: UUID = uuid7()
    events = [NewEvent("turn.enqueued", turn_id, raises_revision=True)]
    result = await connection.execute(
        _ENQUEUE,
        {
            "session_id": session_id,
            "organization_id": organization_id,
            "expected_revision": expected_revision,
            "turn_id": turn_id,
            "opening": opening,
            "user_messages": to_json([message.to_json() for message in user_messages]),
            "external_id": external_id,
            "metadata": to_json(dict(metadata or {})),
            "priority": priority,
            "trace_context": to_json(dict(trace_context)) if trace_context else None,
            **event_parameters(events),
        },
    )
    row = result.one_or_none()
    if row is None:
        session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
        if session.state != "running":
            raise SessionEnded(session_id, session.end_reason)
        raise RevisionConflict(session_id, expected_revision, session.revision)
    recorded = recorded_events(
        events,
        organization_id=organization_id,
        session_id=session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )
    return EnqueuedTurn(
        turn_id,
        session_id,
        row.last_position,
        row.revision,
        row.claimable,
        row.rung,
        row.now,
        recorded,
        row.external_id,
    )
