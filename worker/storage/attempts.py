"""The end of an attempt: exactly one guarded write, with everything that belongs to it.

Each says "where the attempt is mine and the turn is running". A worker that lost its lease gets `LeaseLost` and changes
nothing but the ledger of usage, which no fence guards: what ran was paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause, text

from worker.errors import TurnWorkerError
from worker.storage.cancel import SESSION_ENDED, cancel_turns, cancelled_events
from worker.storage.completions import plan_completion
from worker.storage.database import to_json
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events
from worker.storage.session_lock import lock_session
from worker.storage.usage import RECORD_USAGE, UsageEntry, usage_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.claim import Attempt


class LeaseLost(TurnWorkerError):
    """This attempt is over: another one has the turn, or someone ended it. Nothing was written."""

    code = "lease_lost"

    def __init__(self, turn_id: UUID, attempt: int) -> None:
        super().__init__(turn_id, attempt)
        self.turn_id = turn_id
        self.attempt = attempt

    def __str__(self) -> str:
        return f"Attempt {self.attempt} at turn {self.turn_id} no longer holds it; its result was not written."


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Everything a completed turn leaves behind, written together.

    Attributes:
        checkpoint: The checkpoint without its messages.
        messages: What the turn added to the context, or the whole of it if `replaces_context`.
        initial_context: The session's initial context if the turn changed it, else None.
        end_reason: Why the session is over, if this turn ended it.
    """

    assistant_text: str | None
    assistant_created_at: datetime | None
    checkpoint: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    replaces_context: bool
    initial_context: Mapping[str, JsonValue] | None
    end_reason: str | None
    events: Sequence[NewEvent]


def _end_of_attempt(turn: str, session: str = "", further: str = "") -> TextClause:
    """The statement that ends an attempt: how it changes the turn and the session, and what else it writes."""
    return text(f"""
        WITH session AS (
            SELECT id FROM sessions
            WHERE id = :session_id AND organization_id = :organization_id
            FOR UPDATE
        ), ended AS (
            UPDATE turns
            SET lease_expires_at = NULL, {turn}
            FROM session
            WHERE turns.id = :turn_id
              AND turns.organization_id = :organization_id
              AND turns.session_id = session.id
              AND turns.attempt = :attempt
              AND turns.status = 'running'
            RETURNING turns.id, turns.organization_id
        ), numbered AS (
            UPDATE sessions
            SET last_sequence = last_sequence + :event_count,
                revision = revision + :event_raises {session}
            FROM ended
            WHERE sessions.id = :session_id AND sessions.organization_id = :organization_id
            RETURNING sessions.organization_id, sessions.id, sessions.revision, sessions.last_sequence
        ), recorded AS ({RECORD_EVENTS}), used AS ({RECORD_USAGE}) {further}
        SELECT last_sequence, revision, now() AS now FROM numbered
    """)


_COMPLETE = _end_of_attempt(
    turn="""
        status = 'completed',
        ended_at = now(),
        error = NULL,
        assistant_text = CAST(:assistant_text AS text),
        assistant_created_at = CAST(:assistant_created_at AS timestamptz),
        checkpoint = CAST(:checkpoint AS json),
        replaces_context = :replaces_context
    """,
    session="""
        , head_turn_id = :turn_id
        , initial_context = coalesce(CAST(:initial_context AS json), sessions.initial_context)
        , state = CASE WHEN CAST(:end_reason AS text) IS NULL THEN sessions.state ELSE 'completed' END
        , end_reason = coalesce(CAST(:end_reason AS text), sessions.end_reason)
        , ended_at = CASE WHEN CAST(:end_reason AS text) IS NULL THEN sessions.ended_at ELSE now() END
    """,
    further="""
        , added AS (
            INSERT INTO messages (organization_id, turn_id, ordinal, message)
            SELECT ended.organization_id, ended.id, message.number, CAST(message.content AS json)
            FROM ended, unnest(CAST(:messages AS text[])) WITH ORDINALITY AS message (content, number)
        )
    """,
)
_FAIL = _end_of_attempt(turn="status = 'failed', ended_at = now(), error = CAST(:error AS json)")
_RETRY = _end_of_attempt(
    turn="""
        status = 'pending',
        waiting = true,
        rung_at = NULL,
        error = CAST(:error AS json),
        provider_failures = turns.provider_failures + 1,
        available_at = now() + make_interval(secs => :delay_seconds)
    """
)
_GIVE_BACK = _end_of_attempt(turn="status = 'pending', rung_at = now(), available_at = now()")


async def complete_turn(
    connection: AsyncConnection, attempt: Attempt, completion: Completion, usage: Sequence[UsageEntry] = ()
) -> tuple[RecordedEvent, ...]:
    """`running -> completed`: the turn becomes its session's head, and everything it leaves behind is written with it.

    If it ends the session, the turns still waiting in line are cancelled in the same transaction, which the caller then
    has to provide.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    events = [*completion.events, NewEvent("turn.completed", attempt.turn_id, _of(attempt), raises_revision=True)]
    if completion.end_reason is not None:
        cancelled = await end_line(
            connection,
            organization_id=attempt.organization_id,
            session_id=attempt.session_id,
            except_turn_id=attempt.turn_id,
        )
        events += ending_events(cancelled, completion.end_reason, attempt.turn_id)
    return await _end(
        connection,
        attempt,
        _COMPLETE,
        events,
        usage,
        assistant_text=completion.assistant_text,
        assistant_created_at=completion.assistant_created_at,
        checkpoint=to_json(completion.checkpoint),
        replaces_context=completion.replaces_context,
        initial_context=None if completion.initial_context is None else to_json(completion.initial_context),
        end_reason=completion.end_reason,
        messages=[to_json(message) for message in completion.messages],
    )


async def fail_turn(
    connection: AsyncConnection,
    attempt: Attempt,
    *,
    error: Mapping[str, JsonValue],
    events: Sequence[NewEvent] = (),
    usage: Sequence[UsageEntry] = (),
) -> tuple[RecordedEvent, ...]:
    """`running -> failed`: the session's head stays where it was, and the next in line goes on from there.

    Args:
        error: `{"code", "message", "retryable"}` as the API shows it.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    payload = {**_of(attempt), "error": dict(error)}
    events = [*events, NewEvent("turn.failed", attempt.turn_id, payload, raises_revision=True)]
    return await _end(connection, attempt, _FAIL, events, usage, error=to_json(error))


async def retry_turn(
    connection: AsyncConnection,
    attempt: Attempt,
    *,
    error: Mapping[str, JsonValue],
    delay_seconds: float,
    usage: Sequence[UsageEntry] = (),
) -> tuple[RecordedEvent, ...]:
    """`running -> pending` after a transient failure of the provider: the turn keeps its place and waits `delay_seconds`.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    payload: dict[str, JsonValue] = {**_of(attempt), "error": dict(error), "delay_seconds": delay_seconds}
    events = [NewEvent("turn.retrying", attempt.turn_id, payload)]
    return await _end(connection, attempt, _RETRY, events, usage, error=to_json(error), delay_seconds=delay_seconds)


async def give_back_turn(
    connection: AsyncConnection, attempt: Attempt, *, usage: Sequence[UsageEntry] = ()
) -> tuple[RecordedEvent, ...]:
    """`running -> pending` because this worker stops: claimable at once, and it counts against none of the turn's budgets.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
    """
    payload: dict[str, JsonValue] = {**_of(attempt), "error": None, "delay_seconds": 0}
    events = [NewEvent("turn.retrying", attempt.turn_id, payload)]
    return await _end(connection, attempt, _GIVE_BACK, events, usage)


async def end_line(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID, except_turn_id: UUID | None = None
) -> tuple[UUID, ...]:
    """Lock a session that is ending, cancel what is left in its line, and return the cancelled turns in line order.

    What is to be done once it has ended is written down with it.

    Args:
        except_turn_id: The turn that ends the session, if one does.

    Raises:
        SessionNotFound: when the organization has no such session.
    """
    await lock_session(connection, organization_id=organization_id, session_id=session_id)
    await plan_completion(connection, organization_id=organization_id, session_id=session_id, turn_id=except_turn_id)
    return await cancel_turns(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        cancellation=SESSION_ENDED,
        except_turn_id=except_turn_id,
    )


def ending_events(cancelled: Sequence[UUID], reason: str, turn_id: UUID | None = None) -> list[NewEvent]:
    """The events of a session's end: one for each turn that it cancelled, and its own.

    `turn_id` is the turn that ended the session, if one did.
    """
    return [
        *cancelled_events(cancelled, SESSION_ENDED),
        NewEvent("session.ended", turn_id, {"reason": reason}, raises_revision=True),
    ]


def _of(attempt: Attempt) -> dict[str, JsonValue]:
    return {"attempt": attempt.attempt}


async def _end(
    connection: AsyncConnection,
    attempt: Attempt,
    statement: TextClause,
    events: Sequence[NewEvent],
    usage: Sequence[UsageEntry],
    **values: Any,
) -> tuple[RecordedEvent, ...]:
    result = await connection.execute(
        statement,
        {
            "turn_id": attempt.turn_id,
            "organization_id": attempt.organization_id,
            "session_id": attempt.session_id,
            "attempt": attempt.attempt,
            **event_parameters(events),
            **usage_parameters(usage),
            **values,
        },
    )
    row = result.one_or_none()
    if row is None:
        raise LeaseLost(attempt.turn_id, attempt.attempt)
    return recorded_events(
        events,
        organization_id=attempt.organization_id,
        session_id=attempt.session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )
