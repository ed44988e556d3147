"""The lock on a session's row, which every change of one of its turns takes first, and what it may find there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, bindparam, func, select

from worker.errors import TurnWorkerError
from worker.storage.schema import sessions

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


class SessionNotFound(TurnWorkerError):
    """The organization has no such session."""

    code = "session_not_found"

    def __init__(self, session_id: UUID) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"There is no session {self.session_id}."


class SessionEnded(TurnWorkerError):
    """The session is over and takes no more turns."""

    code = "session_ended"

    def __init__(self, session_id: UUID, reason: str | None) -> None:
        super().__init__(session_id, reason)
        self.session_id = session_id
        self.reason = reason

    def __str__(self) -> str:
        return f"Session {self.session_id} has ended ({self.reason}) and takes no more turns. Create a new session."


class SessionBusy(TurnWorkerError):
    """A turn of the session is pending or running."""

    code = "session_busy"

    def __init__(self, session_id: UUID, turn_id: UUID, status: str) -> None:
        super().__init__(session_id, turn_id, status)
        self.session_id = session_id
        self.turn_id = turn_id
        self.status = status

    def __str__(self) -> str:
        return (
            f"Session {self.session_id} is busy: turn {self.turn_id} is {self.status}. Wait for its end, or cancel it, and "
            "try again."
        )


class RevisionConflict(TurnWorkerError):
    """The session has changed since the caller last saw it."""

    code = "revision_conflict"

    def __init__(self, session_id: UUID, expected: int | None, actual: int) -> None:
        super().__init__(session_id, expected, actual)
        self.session_id = session_id
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return (
            f"Session {self.session_id} is at revision {self.actual}, not {self.expected}: it has changed since you last "
            "read it. Read it again and decide anew."
        )


# What its caller gave the session and what it began with may be large, a whole conversation in a fork, and only a fork asks.
_APART = {"checkpoint", "initial_context", "metadata"}
_SESSION: Select[Any] = select(
    *(column for column in sessions.c if column.name not in _APART), func.now().label("now")
).where(sessions.c.id == bindparam("session_id"), sessions.c.organization_id == bindparam("organization_id"))
_LOCK = _SESSION.with_for_update()
_TRY_LOCK = _SESSION.with_for_update(skip_locked=True)


async def lock_session(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> Row[Any]:
    """Lock the session's row until the transaction ends, and return it with the transaction's time as `now`.

    What the session began with (`checkpoint`, `initial_context`, `metadata`) is left out.

    Raises:
        SessionNotFound: when the organization has no such session.
    """
    result = await connection.execute(_LOCK, {"session_id": session_id, "organization_id": organization_id})
    row: Row[Any] | None = result.one_or_none()
    if row is None:
        raise SessionNotFound(session_id)
    return row


async def try_lock_session(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> Row[Any] | None:
    """Lock the session's row as `lock_session` does; None if it is locked just now, or there is no such session."""
    result = await connection.execute(_TRY_LOCK, {"session_id": session_id, "organization_id": organization_id})
    row: Row[Any] | None = result.one_or_none()
    return row


def refuse_ended(session: Row[Any]) -> None:
    """Refuse to let anything new happen in a locked session that is over, or will be as soon as its running turn is.

    Raises:
        SessionEnded: when that is so.
    """
    if session.state != "running" or session.end_reason is not None:
        raise SessionEnded(session.id, session.end_reason)


def check_revision(session: Row[Any], expected: int | None) -> None:
    """Compare a locked session's revision with the one its caller last saw, if the caller says which.

    Raises:
        RevisionConflict: when they differ.
    """
    if expected is not None and session.revision != expected:
        raise RevisionConflict(session.id, expected, session.revision)
