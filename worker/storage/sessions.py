"""Sessions: created and ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, text
from uuid_utils.compat import uuid7

from worker.conversation.event import SESSION_CANCELLED
from worker.errors import TurnWorkerError
from worker.storage.attempts import end_line, ending_events
from worker.storage.cancel import SESSION_ENDED, cancel_turns, cancelled_events
from worker.storage.enqueue import EnqueuedTurn, NewTurn, enqueue_locked
from worker.storage.line import read_line
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events
from worker.storage.schema import sessions, workflow_definitions, workflows
from worker.storage.session_events import record_events
from worker.storage.session_lock import check_revision, lock_session, try_lock_session
from worker.workflow.definition import SessionLimits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.second_message import OnBusy


class WorkflowNotFound(TurnWorkerError):
    """The organization has no such workflow."""

    code = "workflow_not_found"

    def __init__(self, workflow_id: UUID) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"There is no workflow {self.workflow_id}."


@dataclass(frozen=True, slots=True)
class CreatedSession:
    """A new session, its revision, and its opening turn if the agent speaks first."""

    session_id: UUID
    revision: int
    opening_turn: EnqueuedTurn | None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session after it was ended, by this call or an earlier one.

    Attributes:
        end_reason: Why it is over, or will be.
        ended: Whether it is over; if not, it will be when its running turn is.
        events: What this call recorded; empty if there was nothing to do.
        cancelled: The turns that this call cancelled.
    """

    session_id: UUID
    revision: int
    end_reason: str
    ended: bool
    events: tuple[RecordedEvent, ...] = ()
    cancelled: tuple[UUID, ...] = ()


_NEWEST_DEFINITION = (
    # Read whole: PostgreSQL keeps in `json` what its operators cannot take apart, such as a NUL in a prompt.
    select(workflow_definitions.c.id, workflow_definitions.c.definition)
    .join(workflows, workflows.c.id == workflow_definitions.c.workflow_id)
    .where(
        workflows.c.id == bindparam("workflow_id"),
        workflows.c.organization_id == bindparam("organization_id"),
    )
    .order_by(workflow_definitions.c.number.desc())
    .limit(1)
)
_INSERT = insert(sessions)
_END = text(f"""
    WITH numbered AS (
        UPDATE sessions
        SET state = 'completed',
            end_reason = CAST(:reason AS text),
            disposition = coalesce(CAST(:disposition AS text), disposition),
            ended_at = now(),
            revision = revision + :event_raises,
            last_sequence = last_sequence + :event_count
        WHERE id = :session_id AND organization_id = :organization_id
        RETURNING organization_id, id, revision, last_sequence
    ), recorded AS ({RECORD_EVENTS})
    SELECT last_sequence, revision, now() AS now FROM numbered
""")
_ANNOUNCE_END = text("""
    UPDATE sessions SET end_reason = :reason, disposition = coalesce(CAST(:disposition AS text), disposition)
    WHERE id = :session_id AND organization_id = :organization_id
""")
_BEGIN_CHECKING = text("""
    UPDATE sessions SET check_limits_at = now() + make_interval(secs => least(idle_limit_seconds, duration_limit_seconds))
    WHERE id = :session_id AND organization_id = :organization_id
""")
_TO_FINISH = text("""
    SELECT sessions.organization_id, sessions.id FROM sessions
    WHERE sessions.state = 'running'
      AND sessions.end_reason IS NOT NULL
      AND NOT EXISTS (
        SELECT 1 FROM turns WHERE turns.session_id = sessions.id AND turns.status IN ('pending', 'running')
      )
    LIMIT :batch
""")


async def create_session(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    workflow_id: UUID,
    initial_context: Mapping[str, JsonValue],
    external_id: str | None,
    metadata: Mapping[str, JsonValue],
    opening: bool = True,
    on_busy: OnBusy = "enqueue",
    merge_window_seconds: float = 2.0,
    trace_context: Mapping[str, str] | None = None,
) -> CreatedSession:
    """Create a session on the workflow's newest definition, which it keeps to its end.

    With `opening`, the agent speaks first: the session's opening turn is enqueued in the same transaction.

    Args:
        on_busy: what a further message does while a turn is pending or running, if the message does not say.
        merge_window_seconds: how long a merged turn waits for more messages.

    Raises:
        WorkflowNotFound: when the organization has no such workflow.
    """
    result = await connection.execute(
        _NEWEST_DEFINITION, {"workflow_id": workflow_id, "organization_id": organization_id}
    )
    newest = result.one_or_none()
    if newest is None:
        raise WorkflowNotFound(workflow_id)
    limits = SessionLimits.model_validate(newest.definition.get("workflow_configurations") or {})
    session_id: UUID = uuid7()
    await connection.execute(
        _INSERT,
        {
            "id": session_id,
            "organization_id": organization_id,
            "workflow_id": workflow_id,
            "definition_id": newest.id,
            "initial_context": dict(initial_context),
            "external_id": external_id,
            "metadata": dict(metadata),
            "on_busy": on_busy,
            "merge_window_seconds": merge_window_seconds,
            "idle_limit_seconds": limits.user_idle_max_duration_seconds,
            "duration_limit_seconds": limits.session_max_duration_seconds,
        },
    )
    if limits != SessionLimits():
        await begin_checking_limits(connection, organization_id=organization_id, session_id=session_id)
    if not opening:
        return CreatedSession(session_id, 0, None)
    turn = await enqueue_locked(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        turn=NewTurn(opening=True, trace_context=trace_context),
    )
    return CreatedSession(session_id, turn.revision, turn)


async def begin_checking_limits(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> None:
    """Have a new session looked at when one of its limits may first be exceeded, if it has any."""
    await connection.execute(_BEGIN_CHECKING, {"session_id": session_id, "organization_id": organization_id})


async def end_session(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    reason: str,
    disposition: str | None = None,
    wait: bool = False,
    expected_revision: int | None = None,
) -> EndedSession:
    """End a session: it takes no more turns, and what is scheduled, pending or running is cancelled as `session_ended`.

    Idempotent: a session that is over keeps its reason. A running attempt can write nothing more.

    Args:
        disposition: what came of the conversation.
        wait: let a running turn finish; the session then ends with it, by `finish_ending`.

    Raises:
        SessionNotFound: when the organization has no such session.
        RevisionConflict: when `expected_revision` is not the session's.
    """
    where: Any = {"organization_id": organization_id, "session_id": session_id}
    session = await lock_session(connection, **where)
    check_revision(session, expected_revision)
    if session.state == "completed" or (wait and session.end_reason is not None):
        return EndedSession(session_id, session.revision, session.end_reason, ended=session.state == "completed")
    running_id = next((turn.id for turn in await read_line(connection, **where) if turn.status == "running"), None)
    if running_id is None or not wait:
        return await _end(connection, session, reason, disposition, running_id)
    cancelled = await cancel_turns(connection, **where, cancellation=SESSION_ENDED, except_turn_id=running_id)
    await connection.execute(_ANNOUNCE_END, {**where, "reason": reason, "disposition": disposition})
    events = [
        *cancelled_events(cancelled, SESSION_ENDED),
        NewEvent("session.ending", None, {"reason": reason}, raises_revision=True),
    ]
    recorded = await record_events(connection, **where, events=events)
    return EndedSession(session_id, recorded.revision, reason, ended=False, events=recorded.events, cancelled=cancelled)


async def finish_ending(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID
) -> tuple[RecordedEvent, ...]:
    """End a session that was only waiting for its running turn, and return what was recorded; nothing if it is not so far.

    A locked one is left to the next sweep: something is happening in it, and others wait for theirs.
    """
    where: Any = {"organization_id": organization_id, "session_id": session_id}
    session = await try_lock_session(connection, **where)
    if session is None or session.state != "running" or session.end_reason is None:
        return ()
    if await read_line(connection, **where):
        return ()
    return (await _end(connection, session, session.end_reason, None)).events


async def sessions_to_finish(connection: AsyncConnection, *, batch: int) -> list[tuple[UUID, UUID]]:
    """Sessions that wait for no turn any more and yet have not ended, as (organization id, session id)."""
    rows = await connection.execute(_TO_FINISH, {"batch": batch})
    return [(row.organization_id, row.id) for row in rows]


async def _end(
    connection: AsyncConnection,
    session: Row[Any],
    reason: str,
    disposition: str | None,
    running_id: UUID | None = None,
) -> EndedSession:
    where: Any = {"organization_id": session.organization_id, "session_id": session.id}
    cancelled = await end_line(connection, **where)
    events = ending_events(cancelled, reason)
    if running_id is not None:
        events = [NewEvent(f"turn.{SESSION_CANCELLED}", running_id, {"reason": reason}), *events]
    result = await connection.execute(
        _END, {**where, "reason": reason, "disposition": disposition, **event_parameters(events)}
    )
    row = result.one()
    recorded = recorded_events(events, **where, last_sequence=row.last_sequence, revision=row.revision, now=row.now)
    return EndedSession(session.id, row.revision, reason, ended=True, events=recorded, cancelled=cancelled)
