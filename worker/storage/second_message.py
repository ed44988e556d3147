"""A further message while a turn of the session is pending or running: what the policies other than `enqueue` do.

Each is one transaction under the session's lock, in which claims and commits have no part: a turn that is running here is
running until the commit, and one that completed first is not in the line any more. An opening turn is never called off, never
a reason to refuse, and never merged into.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import text
from uuid_utils.compat import uuid7

from worker.storage.cancel import Cancellation, cancel_turns, cancelled_events
from worker.storage.database import to_json
from worker.storage.enqueue import EnqueuedTurn, NewTurn, enqueue_locked
from worker.storage.line import read_line
from worker.storage.outbox import NewEvent
from worker.storage.session_events import record_events
from worker.storage.session_lock import SessionBusy, check_revision, lock_session, refuse_ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.conversation.user_message import UserMessage

OnBusy = Literal["enqueue", "reject", "interrupt", "replace", "merge"]

MAX_MERGED_MESSAGES: Final = 50
"""A turn that holds this many takes no more; the next message begins another one."""

_MERGE = text("""
    UPDATE turns
    SET user_messages = CAST(:user_messages AS json), metadata = CAST(:metadata AS json),
        external_id = coalesce(external_id, CAST(:external_id AS text))
    WHERE id = :turn_id AND organization_id = :organization_id AND status = 'pending' AND attempt = 0
    RETURNING id, session_id, position, created_at
""")


async def take_message(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    user_messages: Sequence[UserMessage],
    on_busy: OnBusy | None = None,
    external_id: str | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
    expected_revision: int | None = None,
    priority: int = 0,
    trace_context: Mapping[str, str] | None = None,
) -> EnqueuedTurn:
    """Take what the user said by the policy given, or else by the session's own.

    Returns:
        The turn that will answer it: a new one at the end of the line or, merged, the one that was waiting there.

    Raises:
        SessionNotFound: when the organization has no such session.
        SessionEnded: when the session is over.
        RevisionConflict: when `expected_revision` is given and is not the session's.
        SessionBusy: by `reject`, while a turn is pending or running.
    """
    session = await lock_session(connection, organization_id=organization_id, session_id=session_id)
    refuse_ended(session)
    check_revision(session, expected_revision)
    line = await read_line(connection, organization_id=organization_id, session_id=session_id)
    answering = [turn for turn in line if not turn.opening]
    turn = NewTurn(
        turn_id=uuid7(),
        user_messages=[message.to_json() for message in user_messages],
        external_id=external_id,
        metadata=metadata or {},
        priority=priority,
        trace_context=trace_context,
    )
    match on_busy or session.on_busy:
        case "reject" if answering:
            raise SessionBusy(session_id, answering[0].id, answering[0].status)
        case "interrupt" if answering:
            return await _supersede(connection, session, answering, _interrupting(turn, answering))
        case "replace" if answering:
            return await _supersede(connection, session, answering, _replacing(turn, answering))
        case "merge" if line and _takes_more(line[-1], turn):
            return await _merge(connection, session, line[-1], turn)
        case "merge":
            turn = replace(turn, hold_seconds=session.merge_window_seconds)
    return await enqueue_locked(connection, organization_id=organization_id, session_id=session_id, turn=turn)


def _interrupting(turn: NewTurn, answering: Sequence[Row[Any]]) -> tuple[NewTurn, Cancellation]:
    """What the others were to answer is answered with the new message, and what they have done already is kept."""
    said = [
        {**message, "turn_id": message.get("turn_id", str(other.id))}
        for other in answering
        for message in other.user_messages
    ]
    # Only the head of the line can have begun; one that has not may itself go on with what another had.
    head = answering[0]
    interrupting = replace(
        turn,
        user_messages=[*said, *turn.user_messages],
        carries_over_turn_id=head.id if head.attempt else head.carries_over_turn_id,
    )
    return interrupting, Cancellation(
        "interrupted",
        f"A further message interrupted this turn; what it was to answer is answered by turn {turn.turn_id}.",
        retryable=False,
    )


def _replacing(turn: NewTurn, answering: Sequence[Row[Any]]) -> tuple[NewTurn, Cancellation]:
    """What the others were to answer is forgotten, but for what they had taken over: to those messages it was never said."""
    said = [message for other in answering for message in other.user_messages if "turn_id" in message]
    replacing = replace(turn, user_messages=[*said, *turn.user_messages])
    return replacing, Cancellation(
        "replaced",
        f"A further message, answered by turn {turn.turn_id}, replaced what this one was to answer.",
        retryable=False,
    )


async def _supersede(
    connection: AsyncConnection,
    session: Row[Any],
    answering: Sequence[Row[Any]],
    superseding: tuple[NewTurn, Cancellation],
) -> EnqueuedTurn:
    turn, cancellation = superseding
    where: Any = {"organization_id": session.organization_id, "session_id": session.id}
    cancelled = await cancel_turns(
        connection, **where, turn_ids=[other.id for other in answering], cancellation=cancellation
    )
    recorded = await record_events(connection, **where, events=cancelled_events(cancelled, cancellation))
    enqueued = await enqueue_locked(connection, **where, turn=turn)
    return replace(enqueued, events=(*recorded.events, *enqueued.events))


def _takes_more(last: Row[Any], turn: NewTurn) -> bool:
    return (
        last.status == "pending"
        and last.attempt == 0
        and not last.opening
        and last.retry_of_turn_id is None
        and len(last.user_messages) + len(turn.user_messages) <= MAX_MERGED_MESSAGES
    )


async def _merge(connection: AsyncConnection, session: Row[Any], last: Row[Any], turn: NewTurn) -> EnqueuedTurn:
    result = await connection.execute(
        _MERGE,
        {
            "turn_id": last.id,
            "organization_id": session.organization_id,
            "user_messages": to_json([*last.user_messages, *turn.user_messages]),
            "metadata": to_json({**last.metadata, **turn.metadata}),
            "external_id": turn.external_id,
        },
    )
    merged = result.one()
    recorded = await record_events(
        connection,
        organization_id=session.organization_id,
        session_id=session.id,
        events=[NewEvent("turn.merged", last.id, {"messages": len(turn.user_messages)}, raises_revision=True)],
    )
    return EnqueuedTurn(
        last.id,
        session.id,
        merged.position,
        recorded.revision,
        claimable=False,
        rung=False,
        created_at=merged.created_at,
        events=recorded.events,
    )
