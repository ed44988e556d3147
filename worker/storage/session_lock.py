"""The lock on a session's row, which every change of one of its turns takes first, and what it may find there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, bindparam, func, select

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


_LOCK = (
    select(sessions, func.now().label("now"))
    .where(sessions.c.id == bindparam("session_id"), sessions.c.organization_id == bindparam("organization_id"))
    .with_for_update()
)


async def lock_session(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> Row[Any]:
    """Lock the session's row until the transaction ends, and return it with the transaction's time as `now`.

    Raises:
        SessionNotFound: when the organization has no such session.
    """
    result = await connection.execute(_LOCK, {"session_id": session_id, "organization_id": organization_id})
    row = result.one_or_none()
    if row is None:
        raise SessionNotFound(session_id)
    return row


def check_revision(session: Row[Any], expected: int | None) -> None:
    """Compare a locked session's revision with the one its caller last saw, if the caller says which.

    Raises:
        RevisionConflict: when they differ.
    """
    if expected is not None and session.revision != expected:
        raise RevisionConflict(session.id, expected, session.revision)
