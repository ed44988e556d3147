"""What the API shows of sessions. Reads only; nothing here locks anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, select, tuple_

from worker.storage.schema import session_completions, sessions, turns, workflow_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session.

    Attributes:
        definition_number: Which of its workflow's definitions it keeps to its end.
        end_reason: Why it is over, or why it will be once its running turn is.
        disposition: What came of it: as whoever ended it said, or else as the conversation itself found.
        gathered_context: What the conversation has learned up to its head, and from its final extraction if there was one.
        last_sequence: The number of the last event in its log; 0 for none.
    """

    id: UUID
    organization_id: UUID
    workflow_id: UUID
    definition_number: int
    external_id: str | None
    metadata: dict[str, Any]
    state: str
    end_reason: str | None
    disposition: str | None
    on_busy: str
    merge_window_seconds: float
    forked_from_session_id: UUID | None
    forked_from_turn_id: UUID | None
    initial_context: dict[str, Any]
    gathered_context: dict[str, Any]
    current_node_id: str | None
    head_turn_id: UUID | None
    revision: int
    last_sequence: int
    created_at: datetime
    ended_at: datetime | None


_SESSION = (
    select(
        *(column for column in sessions.c if column is not sessions.c.checkpoint),
        # A fork's own holds a whole conversation; it is read only where there is no turn after it.
        func.coalesce(turns.c.checkpoint, sessions.c.checkpoint).label("checkpoint"),
        workflow_definitions.c.number.label("definition_number"),
        session_completions.c.gathered_context.label("final_gathered_context"),
    )
    .join(
        workflow_definitions,
        and_(
            workflow_definitions.c.id == sessions.c.definition_id,
            workflow_definitions.c.organization_id == sessions.c.organization_id,
        ),
    )
    .outerjoin(
        turns, and_(turns.c.id == sessions.c.head_turn_id, turns.c.organization_id == sessions.c.organization_id)
    )
    .outerjoin(
        session_completions,
        and_(
            session_completions.c.session_id == sessions.c.id,
            session_completions.c.organization_id == sessions.c.organization_id,
        ),
    )
    .where(sessions.c.organization_id == bindparam("organization_id"))
)
_GET_SESSION = _SESSION.where(sessions.c.id == bindparam("session_id"))


async def get_session(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> SessionView | None:
    """One session; None if the organization has no such one."""
    result = await connection.execute(_GET_SESSION, {"organization_id": organization_id, "session_id": session_id})
    row = result.one_or_none()
    return None if row is None else _session(row)


async def list_sessions(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    limit: int,
    state: str | None = None,
    workflow_id: UUID | None = None,
    external_id: str | None = None,
    after: tuple[datetime, UUID] | None = None,
) -> list[SessionView]:
    """The organization's sessions that fit, newest first.

    Args:
        after: `(created_at, id)` of the last one of the page before.
    """
    statement: Select[*tuple[Any, ...]] = _SESSION.order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(
        limit
    )
    if state is not None:
        statement = statement.where(sessions.c.state == state)
    if workflow_id is not None:
        statement = statement.where(sessions.c.workflow_id == workflow_id)
    if external_id is not None:
        statement = statement.where(sessions.c.external_id == external_id)
    if after is not None:
        statement = statement.where(tuple_(sessions.c.created_at, sessions.c.id) < tuple_(*after))
    rows = await connection.execute(statement, {"organization_id": organization_id})
    return [_session(row) for row in rows]


def _session(row: Row[*tuple[Any, ...]]) -> SessionView:
    checkpoint = row.checkpoint or {}
    gathered_context = row.final_gathered_context or checkpoint.get("gathered_context") or {}
    return SessionView(
        id=row.id,
        organization_id=row.organization_id,
        workflow_id=row.workflow_id,
        definition_number=row.definition_number,
        external_id=row.external_id,
        metadata=row.metadata,
        state=row.state,
        end_reason=row.end_reason,
        disposition=row.disposition or _found_disposition(gathered_context),
        on_busy=row.on_busy,
        merge_window_seconds=row.merge_window_seconds,
        forked_from_session_id=row.forked_from_session_id,
        forked_from_turn_id=row.forked_from_turn_id,
        initial_context=row.initial_context,
        gathered_context=gathered_context,
        current_node_id=checkpoint.get("current_node_id"),
        head_turn_id=row.head_turn_id,
        revision=row.revision,
        last_sequence=row.last_sequence,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _found_disposition(gathered_context: Mapping[str, Any]) -> str | None:
    found = gathered_context.get("call_disposition")
    return found if isinstance(found, str) else None
