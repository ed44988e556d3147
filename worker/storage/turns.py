"""A turn's life in the database: enqueued, claimed, and ended by exactly one guarded write.

Every function here runs inside the caller's transaction and locks the session's row first. Every write of an attempt says
"where the attempt is mine and the turn is running"; a worker that lost its lease gets `LeaseLost` and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Integer,
    Uuid,
    and_,
    bindparam,
    case,
    exists,
    extract,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from uuid_utils.compat import uuid7

from worker.errors import TurnWorkerError
from worker.storage.outbox import NewEvent, RecordedEvent, record_events
from worker.storage.schema import messages, sessions, turns
from worker.storage.session_lock import (
    RevisionConflict,
    SessionEnded,
    lock_session,
    lock_session_of_turn,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection


class LeaseLost(TurnWorkerError):
    """This attempt is over: another one has the turn, or someone ended it. Nothing was written."""

    code = "lease_lost"

    def __init__(self, turn_id: UUID, attempt: int) -> None:
        super().__init__(turn_id, attempt)
        self.turn_id = turn_id
        self.attempt = attempt

    def __str__(self) -> str:
        return f"Attempt {self.attempt} at turn {self.turn_id} no longer holds it; its result was not written."


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one turn. Its number is the fencing token of everything it writes."""

    organization_id: UUID
    session_id: UUID
    turn_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class EnqueuedTurn:
    """A pending turn as it was just written. `claimable`: nothing stands before it in its session's line."""

    turn_id: UUID
    session_id: UUID
    position: int
    revision: int
    claimable: bool
    created_at: datetime
    events: tuple[RecordedEvent, ...]


@dataclass(frozen=True, slots=True)
class ClaimedTurn:
    """What a worker gets to know by claiming a turn.

    Attributes:
        worker_losses: How many workers this turn has lost so far, the one before this claim included.
        seconds_to_deadline: What is left of the turn's total time, over all its attempts; may be negative.
        error: Why its last attempt failed, if one did.
        parent_turn_id: The session's head, from which this turn goes on.
        session_checkpoint: The checkpoint the session was created with.
    """

    attempt: Attempt
    definition_id: UUID
    opening: bool
    user_messages: list[dict[str, Any]]
    provider_failures: int
    worker_losses: int
    seconds_to_deadline: float
    error: dict[str, Any] | None
    parent_turn_id: UUID | None
    session_checkpoint: dict[str, Any] | None
    initial_context: dict[str, JsonValue]
    model_defaults: dict[str, Any] | None
    events: tuple[RecordedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Everything a completed turn leaves behind, written in one transaction.

    Attributes:
        checkpoint: The checkpoint without its messages.
        messages: What the turn added to the context, or the whole of it if `replaces_context`.
        initial_context: The session's initial context if the turn changed it, else None.
        end_reason: Why the session is over, if this turn ended it.
    """

    assistant_text: str | None
    assistant_created_at: datetime | None
    checkpoint: dict[str, Any]
    messages: Sequence[Mapping[str, Any]]
    replaces_context: bool
    initial_context: Mapping[str, JsonValue] | None
    end_reason: str | None
    events: Sequence[NewEvent]


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What follows from the end of an attempt: the events it recorded and the turn that it made claimable, if any."""

    events: tuple[RecordedEvent, ...]
    next_turn_id: UUID | None


def seconds(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """An SQL interval of that many seconds."""
    return func.make_interval(0, 0, 0, 0, 0, 0, value)


def at_head_of_line(
    session_id: ColumnElement[UUID] = turns.c.session_id, position: ColumnElement[int] = turns.c.position
) -> ColumnElement[bool]:
    """No turn of the same session stands before this one: neither a pending one nor the running one."""
    earlier = turns.alias("earlier")
    return ~exists().where(
        earlier.c.session_id == session_id,
        earlier.c.status.in_(("pending", "running")),
        earlier.c.position < position,
    )


def lease_expired() -> ColumnElement[bool]:
    """The lease ran out, and its holder had a chance to renew it.

    An expiry within one lease after the database itself started proves nothing: nobody could renew while it was away.
    """
    return and_(
        turns.c.lease_expires_at < func.now(),
        func.now() > text("pg_postmaster_start_time()") + seconds(bindparam("lease_seconds")),
    )


def _next_in_line() -> Any:
    following = turns.alias("following")
    return (
        select(following.c.id)
        .where(
            following.c.session_id == turns.c.session_id,
            following.c.status == "pending",
            following.c.position > turns.c.position,
        )
        .order_by(following.c.position)
        .limit(1)
        .scalar_subquery()
    )


_TAKE_PLACE = (
    update(sessions)
    .where(
        sessions.c.id == bindparam("b_session_id"),
        sessions.c.organization_id == bindparam("b_organization_id"),
        sessions.c.state == "running",
    )
    .values(
        last_position=sessions.c.last_position + 1,
        revision=sessions.c.revision + 1,
        last_sequence=sessions.c.last_sequence + 1,
    )
    .returning(sessions.c.last_position, sessions.c.revision, sessions.c.last_sequence)
)
_INSERT_TURN = insert(turns).returning(
    turns.c.created_at,
    # A subquery in RETURNING does not see the inserted row, so it is told the place it asks about.
    at_head_of_line(bindparam("b_session_id", type_=Uuid), bindparam("b_position", type_=Integer)).label("claimable"),
)

_CLAIM = (
    update(turns)
    .where(
        turns.c.id == bindparam("b_turn_id"),
        turns.c.organization_id == bindparam("b_organization_id"),
        or_(
            and_(turns.c.status == "pending", turns.c.available_at <= func.now(), at_head_of_line()),
            and_(turns.c.status == "running", lease_expired()),
        ),
    )
    .values(
        status="running",
        attempt=turns.c.attempt + 1,
        worker_losses=turns.c.worker_losses + case((turns.c.status == "running", 1), else_=0),
        parent_turn_id=bindparam("b_parent_turn_id"),
        first_claimed_at=func.coalesce(turns.c.first_claimed_at, func.now()),
        claimed_at=func.now(),
        claimed_by=bindparam("b_claimed_by"),
        lease_expires_at=func.now() + seconds(bindparam("lease_seconds")),
    )
    .returning(
        turns.c.attempt,
        turns.c.opening,
        turns.c.user_messages,
        turns.c.provider_failures,
        turns.c.worker_losses,
        turns.c.error,
        extract("epoch", turns.c.first_claimed_at - func.now()).label("age"),
    )
)
_ADVANCE_SEQUENCE = (
    update(sessions)
    .where(sessions.c.id == bindparam("b_session_id"), sessions.c.organization_id == bindparam("b_organization_id"))
    .values(last_sequence=sessions.c.last_sequence + bindparam("b_events", type_=Integer))
)
_MINE = and_(
    turns.c.id == bindparam("b_turn_id"),
    turns.c.organization_id == bindparam("b_organization_id"),
    turns.c.attempt == bindparam("b_attempt"),
    turns.c.status == "running",
)
_COMPLETE = (
    update(turns)
    .where(_MINE)
    .values(
        status="completed",
        lease_expires_at=None,
        ended_at=func.now(),
        error=None,
        assistant_text=bindparam("b_assistant_text"),
        assistant_created_at=bindparam("b_assistant_created_at"),
        checkpoint=bindparam("b_checkpoint"),
        replaces_context=bindparam("b_replaces_context"),
    )
    .returning(_next_in_line())
)
_FAIL = (
    update(turns)
    .where(_MINE)
    .values(status="failed", lease_expires_at=None, ended_at=func.now(), error=bindparam("b_error"))
    .returning(_next_in_line())
)
_RETRY = (
    update(turns)
    .where(_MINE)
    .values(
        status="pending",
        lease_expires_at=None,
        rung_at=None,
        error=bindparam("b_error"),
        provider_failures=turns.c.provider_failures + 1,
        available_at=func.now() + seconds(bindparam("b_delay_seconds")),
    )
    .returning(turns.c.id)
)
_GIVE_BACK = (
    update(turns)
    .where(_MINE)
    .values(status="pending", lease_expires_at=None, rung_at=None, available_at=func.now())
    .returning(turns.c.id)
)
_CANCEL_LINE = (
    update(turns)
    .where(
        turns.c.session_id == bindparam("b_session_id"),
        turns.c.organization_id == bindparam("b_organization_id"),
        turns.c.status.in_(("pending", "running")),
    )
    .values(status="cancelled", lease_expires_at=None, ended_at=func.now(), error=bindparam("b_error"))
    .returning(turns.c.id, turns.c.position)
)
_INSERT_MESSAGE = insert(messages)
_SESSION_ENDED = {
    "code": "session_ended",
    "message": "The session ended before this turn was answered.",
    "retryable": False,
}


async def enqueue_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    user_messages: Sequence[str] = (),
    opening: bool = False,
    external_id: str | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
    expected_revision: int | None = None,
) -> EnqueuedTurn:
    """Write a pending turn at the end of its session's line.

    After the transaction has committed, and only then, the caller publishes `events` and, if the turn is `claimable`, rings.

    Raises:
        SessionNotFound: when the organization has no such session.
        SessionEnded: when the session is over.
        RevisionConflict: when `expected_revision` is given and is not the session's.
    """
    result = await connection.execute(_TAKE_PLACE, {"b_session_id": session_id, "b_organization_id": organization_id})
    place = result.one_or_none()
    if place is None:
        session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
        raise SessionEnded(session_id, session.end_reason)
    if expected_revision is not None and place.revision - 1 != expected_revision:
        raise RevisionConflict(session_id, expected_revision, place.revision - 1)
    turn_id: UUID = uuid7()
    inserted = await connection.execute(
        _INSERT_TURN,
        {
            "id": turn_id,
            "organization_id": organization_id,
            "session_id": session_id,
            "position": place.last_position,
            "b_session_id": session_id,
            "b_position": place.last_position,
            "opening": opening,
            "user_messages": [{"text": message} for message in user_messages],
            "external_id": external_id,
            "metadata": dict(metadata or {}),
        },
    )
    turn = inserted.one()
    events = await record_events(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        first_sequence=place.last_sequence,
        now=turn.created_at,
        events=[NewEvent("turn.enqueued", turn_id, {"revision": place.revision})],
    )
    return EnqueuedTurn(
        turn_id, session_id, place.last_position, place.revision, turn.claimable, turn.created_at, events
    )


async def claim_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    turn_id: UUID,
    claimed_by: str,
    lease_seconds: float,
    deadline_seconds: float,
) -> ClaimedTurn | None:
    """Take a turn to run it: a pending one at the head of its session's line, or a running one whose lease has expired.

    Recovery is this very claim. It raises the attempt number, and from then on the attempt before can write nothing.

    Returns:
        None when the turn is not to be had: it is not its turn yet, someone else runs it, or it is over.
    """
    session = await lock_session_of_turn(connection, organization_id=organization_id, turn_id=turn_id)
    if session is None or session.state != "running":
        return None
    result = await connection.execute(
        _CLAIM,
        {
            "b_turn_id": turn_id,
            "b_organization_id": organization_id,
            "b_parent_turn_id": session.head_turn_id,
            "b_claimed_by": claimed_by,
            "lease_seconds": lease_seconds,
        },
    )
    turn = result.one_or_none()
    if turn is None:
        return None
    await connection.execute(
        _ADVANCE_SEQUENCE, {"b_session_id": session.id, "b_organization_id": organization_id, "b_events": 1}
    )
    events = await record_events(
        connection,
        organization_id=organization_id,
        session_id=session.id,
        first_sequence=session.last_sequence + 1,
        now=session.now,
        events=[NewEvent("turn.started", turn_id, {"attempt": turn.attempt})],
    )
    return ClaimedTurn(
        attempt=Attempt(organization_id, session.id, turn_id, turn.attempt),
        definition_id=session.definition_id,
        opening=turn.opening,
        user_messages=turn.user_messages,
        provider_failures=turn.provider_failures,
        worker_losses=turn.worker_losses,
        seconds_to_deadline=deadline_seconds + float(turn.age),
        error=turn.error,
        parent_turn_id=session.head_turn_id,
        session_checkpoint=session.checkpoint,
        initial_context=session.initial_context,
        model_defaults=session.model_defaults,
        events=events,
    )


async def complete_turn(connection: AsyncConnection, attempt: Attempt, completion: Completion) -> AttemptEnd:
    """`running -> completed`: the turn becomes its session's head, and everything it leaves behind is written with it.

    If it ended the session, the turns still waiting in line are cancelled in the same transaction.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    session = await _lock(connection, attempt)
    next_turn_id = await _end(
        connection,
        attempt,
        _COMPLETE,
        {
            "b_assistant_text": completion.assistant_text,
            "b_assistant_created_at": completion.assistant_created_at,
            "b_checkpoint": completion.checkpoint,
            "b_replaces_context": completion.replaces_context,
        },
    )
    if completion.messages:
        await connection.execute(
            _INSERT_MESSAGE,
            [
                {
                    "organization_id": attempt.organization_id,
                    "turn_id": attempt.turn_id,
                    "ordinal": ordinal,
                    "message": message,
                }
                for ordinal, message in enumerate(completion.messages)
            ],
        )
    revision = session.revision + 1
    completed = NewEvent("turn.completed", attempt.turn_id, {"attempt": attempt.attempt, "revision": revision})
    events = [*completion.events, completed]
    changes: dict[str, Any] = {"head_turn_id": attempt.turn_id, "revision": revision}
    if completion.initial_context is not None:
        changes["initial_context"] = dict(completion.initial_context)
    if completion.end_reason is not None:
        cancelled = await cancel_line(
            connection, organization_id=attempt.organization_id, session_id=attempt.session_id
        )
        ending = ending_events(cancelled, completion.end_reason, revision=revision, turn_id=attempt.turn_id)
        events += ending
        changes["revision"] += len(ending)
        changes |= {"state": "completed", "end_reason": completion.end_reason, "ended_at": func.now()}
        next_turn_id = None
    return AttemptEnd(await _record(connection, attempt, session, events, changes), next_turn_id)


async def fail_turn(
    connection: AsyncConnection,
    attempt: Attempt,
    *,
    error: Mapping[str, JsonValue],
    events: Sequence[NewEvent] = (),
) -> AttemptEnd:
    """`running -> failed`: the session's head stays where it was, and the next in line goes on from there.

    Args:
        error: `{"code", "message", "retryable"}` as the API shows it.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    session = await _lock(connection, attempt)
    next_turn_id = await _end(connection, attempt, _FAIL, {"b_error": dict(error)})
    revision = session.revision + 1
    payload: dict[str, JsonValue] = {"attempt": attempt.attempt, "revision": revision, "error": dict(error)}
    failed = NewEvent("turn.failed", attempt.turn_id, payload)
    changes = {"revision": revision}
    return AttemptEnd(await _record(connection, attempt, session, [*events, failed], changes), next_turn_id)


async def retry_turn(
    connection: AsyncConnection,
    attempt: Attempt,
    *,
    error: Mapping[str, JsonValue],
    delay_seconds: float,
) -> AttemptEnd:
    """`running -> pending` after a transient failure of the provider: the turn keeps its place and waits `delay_seconds`.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    session = await _lock(connection, attempt)
    await _end(connection, attempt, _RETRY, {"b_error": dict(error), "b_delay_seconds": delay_seconds})
    payload: dict[str, JsonValue] = {"attempt": attempt.attempt, "error": dict(error), "delay_seconds": delay_seconds}
    retrying = NewEvent("turn.retrying", attempt.turn_id, payload)
    return AttemptEnd(await _record(connection, attempt, session, [retrying], {}), None)


async def give_back_turn(connection: AsyncConnection, attempt: Attempt) -> AttemptEnd:
    """`running -> pending` because this worker stops: claimable at once, and it counts against none of the turn's budgets.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    session = await _lock(connection, attempt)
    await _end(connection, attempt, _GIVE_BACK, {})
    payload: dict[str, JsonValue] = {"attempt": attempt.attempt, "error": None, "delay_seconds": 0}
    retrying = NewEvent("turn.retrying", attempt.turn_id, payload)
    return AttemptEnd(await _record(connection, attempt, session, [retrying], {}), attempt.turn_id)


async def cancel_line(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> tuple[UUID, ...]:
    """Cancel every turn of an ending session that is pending or running, and return them in line order."""
    result = await connection.execute(
        _CANCEL_LINE,
        {"b_session_id": session_id, "b_organization_id": organization_id, "b_error": _SESSION_ENDED},
    )
    return tuple(row.id for row in sorted(result, key=lambda row: row.position))


def ending_events(
    cancelled: Sequence[UUID], reason: str, *, revision: int, turn_id: UUID | None = None
) -> list[NewEvent]:
    """The events of a session's end: one for each turn that it cancelled, and its own. Each raises the revision by one.

    Args:
        revision: The session's revision before them.
        turn_id: The turn that ended the session, if one did.
    """
    return [
        *(
            NewEvent("turn.cancelled", cancelled_id, {"reason": "session_ended", "revision": revision + number})
            for number, cancelled_id in enumerate(cancelled, start=1)
        ),
        NewEvent("session.ended", turn_id, {"reason": reason, "revision": revision + len(cancelled) + 1}),
    ]


async def _lock(connection: AsyncConnection, attempt: Attempt) -> Any:
    return await lock_session(connection, organization_id=attempt.organization_id, session_id=attempt.session_id)


async def _end(connection: AsyncConnection, attempt: Attempt, statement: Any, values: dict[str, Any]) -> UUID | None:
    result = await connection.execute(
        statement,
        {
            "b_turn_id": attempt.turn_id,
            "b_organization_id": attempt.organization_id,
            "b_attempt": attempt.attempt,
            **values,
        },
    )
    row = result.one_or_none()
    if row is None:
        raise LeaseLost(attempt.turn_id, attempt.attempt)
    turn_id: UUID | None = row[0]
    return turn_id


async def _record(
    connection: AsyncConnection, attempt: Attempt, session: Any, events: Sequence[NewEvent], changes: dict[str, Any]
) -> tuple[RecordedEvent, ...]:
    recorded = await record_events(
        connection,
        organization_id=attempt.organization_id,
        session_id=attempt.session_id,
        first_sequence=session.last_sequence + 1,
        now=session.now,
        events=events,
    )
    await connection.execute(
        update(sessions)
        .where(sessions.c.id == attempt.session_id, sessions.c.organization_id == attempt.organization_id)
        .values(last_sequence=session.last_sequence + len(events), **changes)
    )
    return recorded
