"""The numbered event log of a session, which is also the outbox of the channel.

An event is recorded by the statement that it reports, under the lock on its session's row, so its number is final and the log
has no gaps. Publishing comes after the commit and may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, func, select, text

from worker.storage.database import to_json
from worker.storage.schema import outbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something to be recorded.

    Attributes:
        raises_revision: Whether the session's revision rises with it.
        created_at: When it happened; None for the time of the transaction.
    """

    type: str
    turn_id: UUID | None = None
    payload: dict[str, JsonValue] = field(default_factory=dict)
    raises_revision: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as it stands in its session's log.

    Attributes:
        sequence: Its number in the log: from 1, without gaps.
        revision: The session's revision since this event; None if the event did not raise it.
    """

    organization_id: UUID
    session_id: UUID
    sequence: int
    turn_id: UUID | None
    type: str
    payload: dict[str, JsonValue]
    revision: int | None
    created_at: datetime


RECORD_EVENTS: Final = """
    INSERT INTO outbox (organization_id, session_id, sequence, turn_id, type, payload, revision, created_at)
    SELECT
        numbered.organization_id,
        numbered.id,
        numbered.last_sequence - :event_count + event.number,
        event.turn_id,
        event.type,
        CAST(event.payload AS json),
        CASE WHEN event.raises_revision THEN
            numbered.revision - :event_raises + count(*) FILTER (WHERE event.raises_revision) OVER (ORDER BY event.number)
        END,
        coalesce(event.created_at, now())
    FROM numbered, ROWS FROM (
        json_to_recordset(CAST(:events AS json))
            AS (type text, turn_id uuid, raises_revision boolean, created_at timestamptz),
        unnest(CAST(:event_payloads AS text[]))
    ) WITH ORDINALITY AS event (type, turn_id, raises_revision, created_at, payload, number)
"""
"""Part of a statement in which `numbered` is the session's row after `last_sequence` rose by `:event_count` and `revision`
by `:event_raises`. Payloads travel apart: they may hold what PostgreSQL keeps in `json` but cannot make text of."""

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
# Arrays, and not a list of keys: the statement is the same for any number of events, so PostgreSQL plans it once.
_MARK_PUBLISHED = text("""
    UPDATE outbox SET published_at = now()
    FROM unnest(
        CAST(:organization_ids AS uuid[]), CAST(:session_ids AS uuid[]), CAST(:sequences AS bigint[])
    ) AS published (organization_id, session_id, sequence)
    WHERE outbox.session_id = published.session_id
      AND outbox.sequence = published.sequence
      AND outbox.organization_id = published.organization_id
""")


def event_parameters(events: Sequence[NewEvent]) -> dict[str, Any]:
    """The parameters of `RECORD_EVENTS`."""
    return {
        "event_count": len(events),
        "event_raises": sum(event.raises_revision for event in events),
        "events": to_json(
            [
                {
                    "type": event.type,
                    "turn_id": event.turn_id and str(event.turn_id),
                    "raises_revision": event.raises_revision,
                    "created_at": event.created_at and event.created_at.isoformat(),
                }
                for event in events
            ]
        ),
        "event_payloads": [to_json(event.payload) for event in events],
    }


def recorded_events(
    events: Sequence[NewEvent],
    *,
    organization_id: UUID,
    session_id: UUID,
    last_sequence: int,
    revision: int,
    now: datetime,
) -> tuple[RecordedEvent, ...]:
    """What `RECORD_EVENTS` wrote, given the session's counters after it."""
    sequence = last_sequence - len(events)
    revision -= sum(event.raises_revision for event in events)
    recorded = []
    for event in events:
        sequence += 1
        revision += event.raises_revision
        recorded.append(
            RecordedEvent(
                organization_id,
                session_id,
                sequence,
                event.turn_id,
                event.type,
                event.payload,
                revision if event.raises_revision else None,
                event.created_at or now,
            )
        )
    return tuple(recorded)


async def lock_unpublished(
    connection: AsyncConnection, *, older_than_seconds: float, batch: int
) -> tuple[RecordedEvent, ...]:
    """Up to `batch` events of all organizations that nobody has published, oldest first, locked against other sweeps.

    Only those older than `older_than_seconds`: the process that recorded an event publishes it itself.
    """
    rows = await connection.execute(_UNPUBLISHED, {"older_than_seconds": older_than_seconds, "batch": batch})
    return tuple(
        RecordedEvent(
            row.organization_id,
            row.session_id,
            row.sequence,
            row.turn_id,
            row.type,
            row.payload,
            row.revision,
            row.created_at,
        )
        for row in rows
    )


async def mark_published(connection: AsyncConnection, events: Sequence[RecordedEvent]) -> None:
    """Note that these events went out, so that no sweep sends them again."""
    if events:
        await connection.execute(
            _MARK_PUBLISHED,
            {
                "organization_ids": [event.organization_id for event in events],
                "session_ids": [event.session_id for event in events],
                "sequences": [event.sequence for event in events],
            },
        )
