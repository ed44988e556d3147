"""The numbered event log of a session, which is also the outbox of the channel.

An event is recorded in the transaction that it reports, under the lock on its session's row, so its number is final and
the log has no gaps. Publishing comes after the commit and may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, insert, select, tuple_, update

from worker.storage.schema import outbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something to be recorded: `created_at` None means the time of the transaction."""

    type: str
    turn_id: UUID | None = None
    payload: dict[str, JsonValue] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event with its number in its session's log (from 1, without gaps)."""

    organization_id: UUID
    session_id: UUID
    sequence: int
    turn_id: UUID | None
    type: str
    payload: dict[str, JsonValue]
    created_at: datetime


_INSERT = insert(outbox)
_UNPUBLISHED = (
    select(outbox)
    .where(
        outbox.c.published_at.is_(None),
        outbox.c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("older_than_seconds")),
    )
    .order_by(outbox.c.created_at, outbox.c.session_id, outbox.c.sequence)
    .limit(bindparam("batch"))
    .with_for_update(skip_locked=True)
)
_MARK_PUBLISHED = (
    update(outbox)
    .where(tuple_(outbox.c.session_id, outbox.c.sequence).in_(bindparam("keys", expanding=True)))
    .values(published_at=func.now())
)


async def record_events(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    first_sequence: int,
    now: datetime,
    events: Sequence[NewEvent],
) -> tuple[RecordedEvent, ...]:
    """Write events under numbers the caller has taken from the session's row, which it holds locked."""
    recorded = tuple(
        RecordedEvent(
            organization_id,
            session_id,
            first_sequence + offset,
            event.turn_id,
            event.type,
            event.payload,
            event.created_at or now,
        )
        for offset, event in enumerate(events)
    )
    if recorded:
        await connection.execute(
            _INSERT,
            [
                {
                    "organization_id": event.organization_id,
                    "session_id": event.session_id,
                    "sequence": event.sequence,
                    "turn_id": event.turn_id,
                    "type": event.type,
                    "payload": event.payload,
                    "created_at": event.created_at,
                }
                for event in recorded
            ],
        )
    return recorded


async def lock_unpublished(
    connection: AsyncConnection, *, older_than_seconds: float, batch: int
) -> tuple[RecordedEvent, ...]:
    """Up to `batch` events of all organizations that nobody has published, oldest first, locked against other sweeps.

    Only those older than `older_than_seconds`: the process that recorded an event publishes it itself.
    """
    rows = await connection.execute(_UNPUBLISHED, {"older_than_seconds": older_than_seconds, "batch": batch})
    return tuple(
        RecordedEvent(
            row.organization_id, row.session_id, row.sequence, row.turn_id, row.type, row.payload, row.created_at
        )
        for row in rows
    )


async def mark_published(connection: AsyncConnection, events: Sequence[RecordedEvent]) -> None:
    """Note that these events went out, so that no sweep sends them again."""
    if events:
        await connection.execute(_MARK_PUBLISHED, {"keys": [(event.session_id, event.sequence) for event in events]})
