"""Recording what happened in a session whose lock the caller holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Recorded:
    """The session's revision after the events, and the events as they stand in its log."""

    revision: int
    events: tuple[RecordedEvent, ...]


_RECORD = text(f"""
    WITH numbered AS (
        UPDATE sessions
        SET revision = revision + :event_raises, last_sequence = last_sequence + :event_count
        WHERE id = :session_id AND organization_id = :organization_id
        RETURNING organization_id, id, revision, last_sequence
    ), recorded AS ({RECORD_EVENTS})
    SELECT last_sequence, revision, now() AS now FROM numbered
""")


async def record_events(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID, events: Sequence[NewEvent]
) -> Recorded:
    """Write events to a session's log and raise its revision by those that raise it."""
    result = await connection.execute(
        _RECORD, {"session_id": session_id, "organization_id": organization_id, **event_parameters(events)}
    )
    row = result.one()
    recorded = recorded_events(
        events,
        organization_id=organization_id,
        session_id=session_id,
        last_sequence=row.last_sequence,
        revision=row.revision,
        now=row.now,
    )
    return Recorded(row.revision, recorded)
