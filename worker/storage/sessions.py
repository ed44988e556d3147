"""Sessions: created and ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select, text
from uuid_utils.compat import uuid7

from worker.errors import TurnWorkerError
from worker.storage.attempts import end_line, ending_events
from worker.storage.enqueue import EnqueuedTurn, NewTurn, enqueue_locked
from worker.storage.outbox import RECORD_EVENTS, RecordedEvent, event_parameters, recorded_events
from worker.storage.schema import sessions, workflow_definitions, workflows
from worker.storage.session_lock import RevisionConflict, lock_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pydantic import JsonValue
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

    `events` are those this call recorded, `cancelled` the turns it cancelled; both empty for a session already over.
    """

    session_id: UUID
    revision: int
    end_reason: str
    events: tuple[RecordedEvent, ...]
    cancelled: tuple[UUID, ...]


_NEWEST_DEFINITION = (
    select(workflow_definitions.c.id)
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
            end_reason = :reason,
            ended_at = now(),
            revision = revision + :event_raises,
            last_sequence = last_sequence + :event_count
        WHERE id = :session_id AND organization_id = :organization_id
        RETURNING organization_id, id, revision, last_sequence
    ), recorded AS ({RECORD_EVENTS})
    SELECT last_sequence, revision, now() AS now FROM numbered
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
    definition_id = await connection.scalar(
        _NEWEST_DEFINITION, {"workflow_id": workflow_id, "organization_id": organization_id}
    )
    if definition_id is None:
        raise WorkflowNotFound(workflow_id)
    session_id: UUID = uuid7()
    await connection.execute(
        _INSERT,
        {
            "id": session_id,
            "organization_id": organization_id,
            "workflow_id": workflow_id,
            "definition_id": definition_id,
            "initial_context": dict(initial_context),
            "external_id": external_id,
            "metadata": dict(metadata),
            "on_busy": on_busy,
            "merge_window_seconds": merge_window_seconds,
        },
    )
    if not opening:
        return CreatedSession(session_id, 0, None)
    turn = await enqueue_locked(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        turn=NewTurn(opening=True, trace_context=trace_context),
    )
    return CreatedSession(session_id, turn.revision, turn)


async def end_session(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    reason: str,
    expected_revision: int | None = None,
) -> EndedSession:
    """End a session: it takes no more turns, and those pending or running are cancelled with `session_ended`.

    Idempotent: a session that is over keeps its reason. A running attempt finds out by its next write, which is refused.

    Raises:
        SessionNotFound: when the organization has no such session.
        RevisionConflict: when `expected_revision` is not the session's.
    """
    session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
    if expected_revision is not None and session.revision != expected_revision:
        raise RevisionConflict(session_id, expected_revision, session.revision)
    if session.state == "completed":
        return EndedSession(session_id, session.revision, session.end_reason, (), ())
    cancelled = await end_line(connection, organization_id=organization_id, session_id=session_id)
    events = ending_events(cancelled, reason)
    result = await connection.execute(
        _END,
        {
            "session_id": session_id,
            "organization_id": organization_id,
            "reason": reason,
            **event_parameters(events),
        },
    )
    row = result.one()
    recorded = recorded_events(
        events,
        organization_id=organization_id,
        session_id=session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )
    return EndedSession(session_id, row.revision, reason, recorded, cancelled)
