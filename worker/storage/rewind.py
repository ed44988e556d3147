"""Rewinding: a session goes on from an earlier turn, and what came after it stays readable as a branch of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.errors import TurnWorkerError
from worker.storage.cancel import TurnNotFound
from worker.storage.line import read_line
from worker.storage.outbox import NewEvent
from worker.storage.session_events import record_events
from worker.storage.session_lock import SessionBusy, check_revision, lock_session, refuse_ended

if TYPE_CHECKING:
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.outbox import RecordedEvent


class TurnNotCompleted(TurnWorkerError):
    """A conversation can only go on from a turn that was answered."""

    code = "turn_not_completed"

    def __init__(self, turn_id: UUID, status: str) -> None:
        super().__init__(turn_id, status)
        self.turn_id = turn_id
        self.status = status

    def __str__(self) -> str:
        return f"Turn {self.turn_id} is {self.status}; a conversation can only go on from a completed turn, or anew."


@dataclass(frozen=True, slots=True)
class Rewound:
    """A session after it was rewound; `events` is empty if its head was there already."""

    revision: int
    events: tuple[RecordedEvent, ...]


_STATUS = text("""
    SELECT status FROM turns
    WHERE id = :turn_id AND session_id = :session_id AND organization_id = :organization_id
""")
_MOVE_HEAD = text("""
    UPDATE sessions SET head_turn_id = CAST(:turn_id AS uuid)
    WHERE id = :session_id AND organization_id = :organization_id
""")


async def require_completed(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID, turn_id: UUID
) -> None:
    """Make sure that a turn belongs to the session and was answered. That never changes, so no lock is needed.

    Raises:
        TurnNotFound: when the session has no such turn.
        TurnNotCompleted: when it was not answered.
    """
    status = await connection.scalar(
        _STATUS, {"turn_id": turn_id, "session_id": session_id, "organization_id": organization_id}
    )
    if status is None:
        raise TurnNotFound(turn_id)
    if status != "completed":
        raise TurnNotCompleted(turn_id, status)


async def rewind_session(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    turn_id: UUID | None,
    expected_revision: int | None = None,
) -> Rewound:
    """Let a session's next turn go on from this one, of whichever branch; None is the beginning of the conversation.

    Raises:
        SessionNotFound: when the organization has no such session.
        SessionEnded: when the session is over; it can be forked.
        RevisionConflict: when `expected_revision` is given and is not the session's.
        SessionBusy: while a turn is pending or running.
        TurnNotFound: when the session has no such turn.
        TurnNotCompleted: when the turn was not answered.
    """
    where: Any = {"organization_id": organization_id, "session_id": session_id}
    session = await lock_session(connection, **where)
    refuse_ended(session)
    check_revision(session, expected_revision)
    line = await read_line(connection, **where)
    if line:
        raise SessionBusy(session_id, line[0].id, line[0].status)
    if turn_id is not None:
        await require_completed(connection, **where, turn_id=turn_id)
    if turn_id == session.head_turn_id:
        return Rewound(session.revision, ())
    await connection.execute(_MOVE_HEAD, {**where, "turn_id": turn_id})
    payload: dict[str, JsonValue] = {"from_turn_id": _text(session.head_turn_id), "to_turn_id": _text(turn_id)}
    recorded = await record_events(
        connection, **where, events=[NewEvent("session.rewound", None, payload, raises_revision=True)]
    )
    return Rewound(recorded.revision, recorded.events)


def _text(turn_id: UUID | None) -> str | None:
    return None if turn_id is None else str(turn_id)
