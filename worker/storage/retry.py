"""Retrying: a failed or cancelled turn is tried once more, as a new turn that goes on with what the old one had done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.errors import TurnWorkerError
from worker.storage.cancel import session_of_turn
from worker.storage.enqueue import EnqueuedTurn, NewTurn, enqueue_locked
from worker.storage.session_lock import check_revision, lock_session, refuse_ended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


class TurnNotRetryable(TurnWorkerError):
    """The turn did not fail, or what it was to answer is answered by another turn."""

    code = "turn_not_retryable"

    def __init__(self, turn_id: UUID, why: str) -> None:
        super().__init__(turn_id, why)
        self.turn_id = turn_id
        self.why = why

    def __str__(self) -> str:
        return f"Turn {self.turn_id} cannot be retried: {self.why}."


class HeadMoved(TurnWorkerError):
    """The conversation has gone on since the turn ran, so that what it had done no longer fits."""

    code = "head_moved"

    def __init__(self, turn_id: UUID, began_from: UUID | None, head: UUID | None) -> None:
        super().__init__(turn_id, began_from, head)
        self.turn_id = turn_id
        self.began_from = began_from
        self.head = head

    def __str__(self) -> str:
        began_from = self.began_from or "the beginning"
        return (
            f"Turn {self.turn_id} went on from {began_from}, but the session's head is {self.head or 'the beginning'} now. "
            f"Rewind to {began_from} first, or enqueue the message anew."
        )


_TURN = text("""
    SELECT turns.*, (
        SELECT retry.id FROM turns AS retry
        WHERE retry.retry_of_turn_id = turns.id
          AND retry.organization_id = turns.organization_id
          AND retry.status IN ('pending', 'running', 'completed')
        LIMIT 1
    ) AS retried_by
    FROM turns
    WHERE turns.id = :turn_id AND turns.organization_id = :organization_id
""")


async def retry_ended_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    turn_id: UUID,
    expected_revision: int | None = None,
    trace_context: Mapping[str, str] | None = None,
) -> EnqueuedTurn:
    """Enqueue a new turn that answers what a failed or cancelled one was to answer, without saying it a second time.

    It goes on with the finished tool calls of the old one, and its own derive their idempotency keys from the first of the
    turns that retry one another, so that no effect happens twice.

    Raises:
        TurnNotFound: when the organization has no such turn.
        SessionEnded: when the session is over.
        RevisionConflict: when `expected_revision` is given and is not the session's.
        TurnNotRetryable: when the turn neither failed nor was cancelled, or another turn answers in its place.
        HeadMoved: when the session's head is not the one that the turn went on from.
    """
    session_id = await session_of_turn(connection, organization_id=organization_id, turn_id=turn_id)
    where: Any = {"organization_id": organization_id, "session_id": session_id}
    session = await lock_session(connection, **where)
    refuse_ended(session)
    check_revision(session, expected_revision)
    old = (await connection.execute(_TURN, {"turn_id": turn_id, "organization_id": organization_id})).one()
    if old.status not in {"failed", "cancelled"}:
        raise TurnNotRetryable(turn_id, f"it is {old.status}")
    if old.retried_by is not None:
        raise TurnNotRetryable(turn_id, f"turn {old.retried_by} is its retry")
    if old.error["code"] == "interrupted":
        raise TurnNotRetryable(turn_id, "a further message took over what it was to answer")
    # One that was never begun has no parent and fits anywhere, unless the agent was to speak first in it.
    if (old.attempt or old.opening) and old.parent_turn_id != session.head_turn_id:
        raise HeadMoved(turn_id, old.parent_turn_id, session.head_turn_id)
    retry = NewTurn(
        user_messages=old.user_messages,
        opening=old.opening,
        external_id=old.external_id,
        metadata=old.metadata,
        priority=old.priority,
        trace_context=trace_context,
        retry_of_turn_id=turn_id,
        retry_root_turn_id=old.retry_root_turn_id or turn_id,
        carries_over_turn_id=turn_id if old.attempt else old.carries_over_turn_id,
    )
    return await enqueue_locked(connection, **where, turn=retry)
