"""What was lost on the way, over all organizations: turns nobody was told of, attempts nobody renews, keys grown old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, text

from worker.storage.line import AT_HEAD_OF_LINE, LEASE_EXPIRED
from worker.storage.schema import idempotency_keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

_TAKE_OVERDUE = text(f"""
    UPDATE turns SET rung_at = now()
    WHERE id IN (
        SELECT turns.id FROM turns
        WHERE (
            (
                turns.status = 'pending'
                AND turns.available_at < now() - make_interval(secs => :after_seconds)
                AND {AT_HEAD_OF_LINE}
            )
            OR (turns.status = 'running' AND {LEASE_EXPIRED})
          )
          AND (turns.rung_at IS NULL OR turns.rung_at < now() - make_interval(secs => :again_seconds))
        ORDER BY turns.available_at
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
    RETURNING organization_id, id
""")
_FORGET_RINGS = text("""
    UPDATE turns SET rung_at = NULL
    FROM (
        SELECT turns.id FROM turns
        JOIN unnest(CAST(:organization_ids AS uuid[]), CAST(:turn_ids AS uuid[])) AS rung (organization_id, turn_id)
          ON turns.organization_id = rung.organization_id AND turns.id = rung.turn_id
        ORDER BY turns.id
        FOR UPDATE OF turns SKIP LOCKED
    ) AS unlocked
    WHERE turns.id = unlocked.id
""")
_PURGE_KEYS = delete(idempotency_keys).where(
    idempotency_keys.c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("older_than_seconds"))
)


async def take_overdue_turns(
    connection: AsyncConnection, *, after_seconds: float, again_seconds: float, lease_seconds: float, batch: int
) -> list[tuple[UUID, UUID]]:
    """Turns that could run but do not, as (organization id, turn id), each noted as rung now.

    These are the pending ones claimable for over `after_seconds`, and the running ones whose lease has expired, unless a
    sweep rang them less than `again_seconds` ago. Several sweeps at once take different turns.
    """
    result = await connection.execute(
        _TAKE_OVERDUE,
        {
            "after_seconds": after_seconds,
            "again_seconds": again_seconds,
            "lease_seconds": lease_seconds,
            "batch": batch,
        },
    )
    return [(row.organization_id, row.id) for row in result]


async def forget_rings(connection: AsyncConnection, turns: Sequence[tuple[UUID, UUID]]) -> None:
    """Note that nobody was rung for these turns, given as (organization id, turn id), so that the next sweep takes them.

    One that somebody else has locked is left as it is: whoever changes a turn knows of it.
    """
    organization_ids, turn_ids = zip(*turns, strict=True)
    await connection.execute(_FORGET_RINGS, {"organization_ids": list(organization_ids), "turn_ids": list(turn_ids)})


async def purge_idempotency_keys(connection: AsyncConnection, *, older_than_seconds: float) -> int:
    """Forget what was answered to requests made longer ago than that, and return how many were forgotten."""
    result = await connection.execute(_PURGE_KEYS, {"older_than_seconds": older_than_seconds})
    return result.rowcount
