"""Enqueueing: a turn becomes a row, and with that it will be answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text
from uuid_utils.compat import uuid7

from worker.errors import TurnWorkerError
from worker.storage.backlog import ROOM_FOR_ONE_MORE
from worker.storage.database import to_json
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events
from worker.storage.session_lock import check_revision, lock_session, refuse_ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.conversation.user_message import UserMessage


class OtherPolicyApplies(TurnWorkerError):
    """The session's own policy is not to enqueue a further message just like that: see `worker.storage.second_message`."""

    code = "other_policy_applies"

    def __init__(self, session_id: UUID, on_busy: str) -> None:
        super().__init__(session_id, on_busy)
        self.session_id = session_id
        self.on_busy = on_busy

    def __str__(self) -> str:
        return f"Session {self.session_id} takes further messages by the policy {self.on_busy!r}."


@dataclass(frozen=True, slots=True)
class EnqueuedTurn:
    """A pending turn as it was just written.

    Attributes:
        position: Its place in its session's line, from 1.
        revision: The session's revision since then.
        claimable: Nothing stood before it when it was written. If something did, that may be over by the time of the commit.
        rung: It is claimable, and a worker has room for it: it is noted as rung, and the caller rings.
        session_external_id: What its caller calls the session.
        hold_seconds: How long it waits for more messages before it can be claimed.
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
    hold_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn to be written.

    Attributes:
        user_messages: As `UserMessage.to_json` writes each, with `turn_id` if it was first said to another turn.
        retry_root_turn_id: The first of the turns that retry one another.
        carries_over_turn_id: The turn in whose place it stands, whose finished work it goes on with.
        hold_seconds: How long it waits for more messages.
        priority: Of the turns of its organization that wait for a worker, those with a higher one go first.
        trace_context: The W3C trace context of whoever asks for it; its spans link to it.
    """

    turn_id: UUID = field(default_factory=uuid7)
    user_messages: Sequence[Mapping[str, JsonValue]] = ()
    opening: bool = False
    external_id: str | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    retry_of_turn_id: UUID | None = None
    retry_root_turn_id: UUID | None = None
    carries_over_turn_id: UUID | None = None
    hold_seconds: float = 0.0
    priority: int = 0
    trace_context: Mapping[str, str] | None = None


# The update takes the lock on the session's row, and the place in its line, the revision and the event's number with it.
_ENQUEUE = text(f"""
    WITH numbered AS (
        UPDATE sessions
        SET last_position = last_position + 1, revision = revision + 1, last_sequence = last_sequence + 1
        WHERE id = :session_id
          AND organization_id = :organization_id
          AND state = 'running'
          AND end_reason IS NULL
          AND coalesce(CAST(:on_busy AS text), on_busy) = 'enqueue'
          AND revision = coalesce(CAST(:expected_revision AS integer), revision)
        RETURNING organization_id, id, external_id, last_position, revision, last_sequence
    ), line AS (
        SELECT NOT EXISTS (
            SELECT 1 FROM turns AS earlier
            WHERE earlier.session_id = :session_id AND earlier.status IN ('pending', 'running')
        ) AND CAST(:hold_seconds AS double precision) = 0 AS claimable
    ), place AS (
        SELECT claimable, CASE WHEN claimable THEN {ROOM_FOR_ONE_MORE} ELSE false END AS rung FROM line
    ), turn AS (
        INSERT INTO turns (
            id, organization_id, session_id, position, opening, user_messages, external_id, metadata,
            retry_of_turn_id, retry_root_turn_id, carries_over_turn_id, available_at, trace_context,
            priority, waiting, rung_at
        )
        SELECT
            :turn_id, organization_id, id, last_position, :opening, CAST(:user_messages AS json),
            CAST(:external_id AS text), CAST(:metadata AS json), CAST(:retry_of_turn_id AS uuid),
            CAST(:retry_root_turn_id AS uuid), CAST(:carries_over_turn_id AS uuid),
            now() + make_interval(secs => :hold_seconds), CAST(:trace_context AS json),
            :priority, claimable AND NOT rung, CASE WHEN rung THEN now() END
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
    on_busy: str | None = None,
    expected_revision: int | None = None,
    priority: int = 0,
    trace_context: Mapping[str, str] | None = None,
) -> EnqueuedTurn:
    """Write a pending turn at the end of its session's line, in one statement.

    After the commit, and only then, the caller publishes `events` and rings: for the turn if it is `rung`, else for whichever
    turns `choose_turns` then names.

    Args:
        on_busy: `enqueue`; or None for the session's policy, which then has to be that one.
        priority: Of the turns of its organization that wait for a worker, those with a higher one go first. Inside a session
            the order of the line beats it.
        trace_context: The W3C trace context of whoever asks for the turn; its spans link to it.

    Raises:
        SessionNotFound: when the organization has no such session.
        SessionEnded: when the session is over.
        RevisionConflict: when `expected_revision` is given and is not the session's.
        OtherPolicyApplies: when the session's policy is another one.
    """
    turn = NewTurn(
        user_messages=[message.to_json() for message in user_messages],
        opening=opening,
        external_id=external_id,
        metadata=metadata or {},
        priority=priority,
        trace_context=trace_context,
    )
    enqueued = await _enqueue(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        turn=turn,
        on_busy=on_busy,
        expected_revision=expected_revision,
    )
    if enqueued is not None:
        return enqueued
    session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
    refuse_ended(session)
    check_revision(session, expected_revision)
    raise OtherPolicyApplies(session_id, session.on_busy)


async def enqueue_locked(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID, turn: NewTurn
) -> EnqueuedTurn:
    """Write a pending turn at the end of the line of a running session whose lock the caller holds."""
    enqueued = await _enqueue(
        connection, organization_id=organization_id, session_id=session_id, turn=turn, on_busy="enqueue"
    )
    if enqueued is None:
        raise AssertionError("the caller holds the lock on a session that takes turns")
    return enqueued


async def _enqueue(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    turn: NewTurn,
    on_busy: str | None,
    expected_revision: int | None = None,
) -> EnqueuedTurn | None:
    events = [NewEvent("turn.enqueued", turn.turn_id, raises_revision=True)]
    result = await connection.execute(
        _ENQUEUE,
        {
            "session_id": session_id,
            "organization_id": organization_id,
            "on_busy": on_busy,
            "expected_revision": expected_revision,
            "turn_id": turn.turn_id,
            "opening": turn.opening,
            "user_messages": to_json(list(turn.user_messages)),
            "external_id": turn.external_id,
            "metadata": to_json(dict(turn.metadata)),
            "retry_of_turn_id": turn.retry_of_turn_id,
            "retry_root_turn_id": turn.retry_root_turn_id,
            "carries_over_turn_id": turn.carries_over_turn_id,
            "hold_seconds": turn.hold_seconds,
            "priority": turn.priority,
            "trace_context": to_json(dict(turn.trace_context)) if turn.trace_context else None,
            **event_parameters(events),
        },
    )
    row = result.one_or_none()
    if row is None:
        return None
    recorded = recorded_events(
        events,
        organization_id=organization_id,
        session_id=session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )
    return EnqueuedTurn(
        turn.turn_id,
        session_id,
        row.last_position,
        row.revision,
        row.claimable,
        row.rung,
        row.now,
        recorded,
        row.external_id,
        turn.hold_seconds,
    )
