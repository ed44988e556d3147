"""Cancelling turns: one guarded update under the session's lock, after which no write of a running attempt can land."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from worker.errors import TurnWorkerError
from worker.storage.database import to_json
from worker.storage.outbox import NewEvent
from worker.storage.session_events import record_events
from worker.storage.session_lock import check_revision, lock_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.outbox import RecordedEvent


class TurnNotFound(TurnWorkerError):
    """The organization has no such turn."""

    code = "turn_not_found"

    def __init__(self, turn_id: UUID) -> None:
        super().__init__(turn_id)
        self.turn_id = turn_id

    def __str__(self) -> str:
        return f"There is no turn {self.turn_id}."


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Why turns are cancelled, as their `error` and their events say it.

    Attributes:
        code: Stable and machine-readable.
        retryable: Whether a retry of the turn makes sense.
    """

    code: str
    message: str
    retryable: bool

    @property
    def error(self) -> str:
        """The JSON for the turn's `error`."""
        return to_json({"code": self.code, "message": self.message, "retryable": self.retryable})


SESSION_ENDED: Final = Cancellation(
    "session_ended", "The session ended before this turn was answered.", retryable=False
)


def cancelled_on_request(reason: str | None) -> Cancellation:
    """Somebody asked for it, and perhaps said why."""
    because = f": {reason}" if reason else "."
    return Cancellation("cancelled", f"The turn was cancelled on request{because}", retryable=True)


_SESSION_OF_TURN = text("SELECT session_id FROM turns WHERE id = :turn_id AND organization_id = :organization_id")
_CANCEL = text("""
    UPDATE turns
    SET status = 'cancelled', lease_expires_at = NULL, ended_at = now(), error = CAST(:error AS json)
    WHERE session_id = :session_id
      AND organization_id = :organization_id
      AND status IN ('scheduled', 'pending', 'running')
      AND (CAST(:turn_ids AS uuid[]) IS NULL OR id = ANY(CAST(:turn_ids AS uuid[])))
      AND id IS DISTINCT FROM CAST(:except_turn_id AS uuid)
    RETURNING id, position
""")


async def session_of_turn(connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID) -> UUID:
    """Which session a turn belongs to; that never changes, so it may be asked before the session is locked.

    Raises:
        TurnNotFound: when the organization has no such turn.
    """
    session_id: UUID | None = await connection.scalar(
        _SESSION_OF_TURN, {"turn_id": turn_id, "organization_id": organization_id}
    )
    if session_id is None:
        raise TurnNotFound(turn_id)
    return session_id


async def cancel_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    turn_id: UUID,
    reason: str | None = None,
    expected_revision: int | None = None,
) -> tuple[RecordedEvent, ...]:
    """Cancel a turn that is not over, and return what was recorded: nothing if it was over already and stays as it is.

    Once the transaction is committed, whatever a running attempt still wants to write is refused.

    Raises:
        TurnNotFound: when the organization has no such turn.
        RevisionConflict: when the turn is not over, and `expected_revision` is not its session's.
    """
    session_id = await session_of_turn(connection, organization_id=organization_id, turn_id=turn_id)
    session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
    cancellation = cancelled_on_request(reason)
    cancelled = await cancel_turns(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        turn_ids=[turn_id],
        cancellation=cancellation,
    )
    if not cancelled:
        return ()
    check_revision(session, expected_revision)
    recorded = await record_events(
        connection,
        organization_id=organization_id,
        session_id=session_id,
        events=cancelled_events(cancelled, cancellation, reason=reason),
    )
    return recorded.events


async def cancel_turns(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    cancellation: Cancellation,
    turn_ids: Sequence[UUID] | None = None,
    except_turn_id: UUID | None = None,
) -> tuple[UUID, ...]:
    """Cancel those of the session's turns that are not over, and return them in line order, scheduled ones last.

    The caller holds the lock on the session's row and records the events.

    Args:
        turn_ids: which of them; None for all
        except_turn_id: but this one.
    """
    rows: Any = await connection.execute(
        _CANCEL,
        {
            "session_id": session_id,
            "organization_id": organization_id,
            "turn_ids": None if turn_ids is None else list(turn_ids),
            "except_turn_id": except_turn_id,
            "error": cancellation.error,
        },
    )
    return tuple(row.id for row in sorted(rows, key=lambda row: (row.position is None, row.position or 0)))


def cancelled_events(
    turn_ids: Sequence[UUID], cancellation: Cancellation, *, reason: str | None = None
) -> list[NewEvent]:
    """The events that say so, one for each turn. `reason` is what a person said; by default, the code says it."""
    return [
        NewEvent("turn.cancelled", turn_id, {"reason": reason or cancellation.code}, raises_revision=True)
        for turn_id in turn_ids
    ]
