"""What the API shows of turns. Reads only; nothing here locks anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, or_, select

from worker.conversation.usage import LLMUsage, Usage, usage_key
from worker.conversation.user_message import UserMessage
from worker.storage.schema import sessions, turns, usage_entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.enqueue import EnqueuedTurn

TERMINAL_STATUSES = ("completed", "failed", "cancelled")
"""A turn in one of these never changes again."""


@dataclass(frozen=True, slots=True)
class TurnView:
    """A turn, with its session's state and revision.

    Attributes:
        position: Its place in the session's line; None while it is scheduled.
        user_messages: The texts it answers; none for an opening turn.
        user_images: What was shown with them: the index of the message, and what `Image.summary` says.
        available_at: Before this time it is not tried (again).
        error: Why it failed, or why its last attempt did if it waits for the next one.
        usage: What all its attempts used, in the form of `worker.conversation.usage`.
    """

    id: UUID
    organization_id: UUID
    session_id: UUID
    session_state: str
    revision: int
    position: int | None
    parent_turn_id: UUID | None
    retry_of_turn_id: UUID | None
    carries_over_turn_id: UUID | None
    status: str
    opening: bool
    priority: int
    user_messages: list[str]
    user_images: list[dict[str, Any]]
    assistant_text: str | None
    error: dict[str, Any] | None
    attempt: int
    usage: dict[str, Any]
    external_id: str | None
    metadata: dict[str, Any]
    created_at: datetime
    not_before: datetime | None
    available_at: datetime
    first_claimed_at: datetime | None
    claimed_at: datetime | None
    assistant_created_at: datetime | None
    ended_at: datetime | None


def _usage() -> Any:
    counts = (
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    )
    per_model = (
        select(
            func.json_build_array(
                usage_entries.c.processor,
                usage_entries.c.model,
                *(func.sum(usage_entries.c[count]) for count in counts),
            ).label("used")
        )
        .where(usage_entries.c.turn_id == turns.c.id, usage_entries.c.organization_id == turns.c.organization_id)
        .group_by(usage_entries.c.processor, usage_entries.c.model)
        .order_by(usage_entries.c.processor, usage_entries.c.model)
        .correlate(turns)
        .subquery()
    )
    return select(func.json_agg(per_model.c.used)).scalar_subquery()


_TURN = (
    select(
        turns.c.id,
        turns.c.organization_id,
        turns.c.session_id,
        sessions.c.state.label("session_state"),
        sessions.c.revision,
        turns.c.position,
        turns.c.parent_turn_id,
        turns.c.retry_of_turn_id,
        turns.c.carries_over_turn_id,
        turns.c.status,
        turns.c.opening,
        turns.c.priority,
        turns.c.user_messages,
        turns.c.assistant_text,
        turns.c.error,
        turns.c.attempt,
        turns.c.external_id,
        turns.c["metadata"],
        turns.c.created_at,
        turns.c.not_before,
        turns.c.available_at,
        turns.c.first_claimed_at,
        turns.c.claimed_at,
        turns.c.assistant_created_at,
        turns.c.ended_at,
        _usage().label("used"),
    )
    .join(
        sessions,
        and_(sessions.c.id == turns.c.session_id, sessions.c.organization_id == turns.c.organization_id),
    )
    .where(turns.c.organization_id == bindparam("organization_id"))
)
_GET_TURN = _TURN.where(turns.c.id == bindparam("turn_id"))
_LIST_TURNS = (
    _TURN.where(turns.c.session_id == bindparam("session_id"))
    .order_by(turns.c.position.nulls_last(), turns.c.id)
    .limit(bindparam("limit"))
)
_LIST_TURNS_IN_LINE = _LIST_TURNS.where(or_(turns.c.position > bindparam("position"), turns.c.position.is_(None)))
_LIST_TURNS_OUTSIDE = _LIST_TURNS.where(turns.c.position.is_(None), turns.c.id > bindparam("turn_id"))


async def get_turn(connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID) -> TurnView | None:
    """One turn; None if the organization has no such one."""
    result = await connection.execute(_GET_TURN, {"organization_id": organization_id, "turn_id": turn_id})
    row = result.one_or_none()
    return None if row is None else _turn(row)


async def read_turn(connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID) -> TurnView:
    """One turn, which this transaction has just written."""
    turn = await get_turn(connection, organization_id=organization_id, turn_id=turn_id)
    if turn is None:
        raise AssertionError("a turn that was just written is there")
    return turn


def enqueued_turn(
    turn: EnqueuedTurn,
    *,
    organization_id: UUID,
    opening: bool = False,
    user_messages: Sequence[UserMessage] = (),
    external_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: int = 0,
) -> TurnView:
    """A turn as it was just enqueued with these values: what reading it would return, without reading it."""
    return TurnView(
        id=turn.turn_id,
        organization_id=organization_id,
        session_id=turn.session_id,
        session_state="running",
        revision=turn.revision,
        position=turn.position,
        parent_turn_id=None,
        retry_of_turn_id=None,
        carries_over_turn_id=None,
        status="pending",
        opening=opening,
        priority=priority,
        user_messages=[message.text for message in user_messages],
        user_images=_images(user_messages),
        assistant_text=None,
        error=None,
        attempt=0,
        usage=Usage().to_json(),
        external_id=external_id,
        metadata=dict(metadata or {}),
        created_at=turn.created_at,
        not_before=None,
        available_at=turn.created_at,
        first_claimed_at=None,
        claimed_at=None,
        assistant_created_at=None,
        ended_at=None,
    )


async def list_turns(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    limit: int,
    after: tuple[int | None, UUID] | None = None,
) -> list[TurnView]:
    """A session's turns in the order of its line, all branches of its tree; then those that have no place in it.

    Args:
        after: `(position, id)` of the last one of the page before.
    """
    parameters: dict[str, Any] = {"organization_id": organization_id, "session_id": session_id, "limit": limit}
    match after:
        case None:
            statement = _LIST_TURNS
        case (None, turn_id):
            statement = _LIST_TURNS_OUTSIDE
            parameters["turn_id"] = turn_id
        case (position, _):
            statement = _LIST_TURNS_IN_LINE
            parameters["position"] = position
    return [_turn(row) for row in await connection.execute(statement, parameters)]


def _turn(row: Row[*tuple[Any, ...]]) -> TurnView:
    ended, claimed = row.ended_at, row.claimed_at
    user_messages = [UserMessage.from_json(message) for message in row.user_messages]
    usage = Usage(
        llm={usage_key(processor, model): LLMUsage(*counts) for processor, model, *counts in row.used or ()},
        call_duration_seconds=(ended - claimed).total_seconds() if ended and claimed else 0.0,
    )
    return TurnView(
        id=row.id,
        organization_id=row.organization_id,
        session_id=row.session_id,
        session_state=row.session_state,
        revision=row.revision,
        position=row.position,
        parent_turn_id=row.parent_turn_id,
        retry_of_turn_id=row.retry_of_turn_id,
        carries_over_turn_id=row.carries_over_turn_id,
        status=row.status,
        opening=row.opening,
        priority=row.priority,
        user_messages=[message.text for message in user_messages],
        user_images=_images(user_messages),
        assistant_text=row.assistant_text,
        error=row.error,
        attempt=row.attempt,
        usage=usage.to_json(),
        external_id=row.external_id,
        metadata=row.metadata,
        created_at=row.created_at,
        not_before=row.not_before,
        available_at=row.available_at,
        first_claimed_at=row.first_claimed_at,
        claimed_at=row.claimed_at,
        assistant_created_at=row.assistant_created_at,
        ended_at=row.ended_at,
    )


def _images(messages: Sequence[UserMessage]) -> list[dict[str, Any]]:
    return [{"message": index, **image.summary()} for index, message in enumerate(messages) for image in message.images]
