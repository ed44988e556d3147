"""What the API shows of sessions, turns and events. Reads only; nothing here locks anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, or_, select, text, tuple_
from sqlalchemy.exc import ProgrammingError

from worker.conversation.usage import LLMUsage, Usage, usage_key
from worker.conversation.user_message import UserMessage
from worker.storage.schema import outbox, session_completions, sessions, turns, usage_entries, workflow_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.enqueue import EnqueuedTurn

TERMINAL_STATUSES = ("completed", "failed", "cancelled")
"""A turn in one of these never changes again."""


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


_SESSION = (
    select(
        sessions,
        workflow_definitions.c.number.label("definition_number"),
        turns.c.checkpoint.label("head_checkpoint"),
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

_APPLIED_REVISION = text("SELECT version_num FROM alembic_version")

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


async def applied_revision(connection: AsyncConnection) -> str | None:
    """The revision of the database's schema; None if no migration was ever applied."""
    try:
        revision: str | None = await connection.scalar(_APPLIED_REVISION)
    except ProgrammingError:
        return None
    return revision


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


def _session(row: Row[*tuple[Any, ...]]) -> SessionView:
    checkpoint = row.head_checkpoint or row.checkpoint or {}
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
