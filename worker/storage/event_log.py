"""Reading the log of a session, or of what is about one of its turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, select

from worker.storage.schema import outbox, session_completions, sessions, turns
from worker.storage.turn_views import TERMINAL_STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class EventView:
    """An event of a session's log. `revision` is the session's since then, if the event raised it."""

    sequence: int
    type: str
    session_id: UUID
    turn_id: UUID | None
    revision: int | None
    payload: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EventLog:
    """A piece of the log of a session, or of what is about one of its turns.

    Attributes:
        events: In the order of their numbers.
        finished: There are no further events, and there will be none.
    """

    organization_id: UUID
    session_id: UUID
    revision: int
    events: list[EventView]
    finished: bool


# One statement, so one snapshot: a log that is finished is also complete.
_EVENT_COLUMNS = (
    outbox.c.sequence,
    outbox.c.type,
    outbox.c.turn_id,
    outbox.c.revision.label("event_revision"),
    outbox.c.payload,
    outbox.c.created_at,
)
# What is done at a session's end is reported in its log, after the end.
_NOTHING_LEFT_TO_DO = ~(
    select(session_completions.c.id)
    .where(
        session_completions.c.session_id == sessions.c.id,
        session_completions.c.organization_id == sessions.c.organization_id,
        session_completions.c.status.in_(("pending", "running")),
    )
    .exists()
)
_SESSION_EVENTS = (
    select(
        sessions.c.organization_id,
        sessions.c.id.label("session_id"),
        sessions.c.revision,
        and_(sessions.c.state == "completed", _NOTHING_LEFT_TO_DO).label("over"),
        *_EVENT_COLUMNS,
    )
    .outerjoin(
        outbox,
        and_(
            outbox.c.session_id == sessions.c.id,
            outbox.c.organization_id == sessions.c.organization_id,
            outbox.c.sequence > bindparam("after"),
        ),
    )
    .where(sessions.c.id == bindparam("session_id"), sessions.c.organization_id == bindparam("organization_id"))
    .order_by(outbox.c.sequence)
    .limit(bindparam("limit"))
)
_TURN_EVENTS = (
    select(
        turns.c.organization_id,
        turns.c.session_id,
        sessions.c.revision,
        turns.c.status.in_(TERMINAL_STATUSES).label("over"),
        *_EVENT_COLUMNS,
    )
    .join(
        sessions,
        and_(sessions.c.id == turns.c.session_id, sessions.c.organization_id == turns.c.organization_id),
    )
    .outerjoin(
        outbox,
        and_(
            outbox.c.turn_id == turns.c.id,
            outbox.c.organization_id == turns.c.organization_id,
            outbox.c.sequence > bindparam("after"),
        ),
    )
    .where(turns.c.id == bindparam("turn_id"), turns.c.organization_id == bindparam("organization_id"))
    .order_by(outbox.c.sequence)
    .limit(bindparam("limit"))
)


async def session_events(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID, after: int, limit: int
) -> EventLog | None:
    """Up to `limit` events of a session with numbers above `after`; None if the organization has no such session."""
    result = await connection.execute(
        _SESSION_EVENTS,
        {"organization_id": organization_id, "session_id": session_id, "after": after, "limit": limit},
    )
    return _log(result.all(), limit)


async def turn_events(
    connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID, after: int, limit: int
) -> EventLog | None:
    """The same for the events that are about one turn; None if the organization has no such turn."""
    result = await connection.execute(
        _TURN_EVENTS, {"organization_id": organization_id, "turn_id": turn_id, "after": after, "limit": limit}
    )
    return _log(result.all(), limit)


def _log(rows: Sequence[Row[*tuple[Any, ...]]], limit: int) -> EventLog | None:
    if not rows:
        return None
    first = rows[0]
    events = [
        EventView(row.sequence, row.type, row.session_id, row.turn_id, row.event_revision, row.payload, row.created_at)
        for row in rows
        if row.sequence is not None
    ]
    return EventLog(
        organization_id=first.organization_id,
        session_id=first.session_id,
        revision=first.revision,
        events=events,
        finished=first.over and len(events) < limit,
    )
