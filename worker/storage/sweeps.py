"""What was lost on the way, over all organizations: turns nobody was told of, attempts nobody renews, keys grown old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, func, or_, select, update

from worker.storage.schema import idempotency_keys, turns
from worker.storage.turns import at_head_of_line, lease_expired, seconds

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

_OVERDUE = (
    select(turns.c.id)
    .where(
        or_(
            and_(
                turns.c.status == "pending",
                turns.c.available_at < func.now() - seconds(bindparam("after_seconds")),
                at_head_of_line(),
            ),
            and_(turns.c.status == "running", lease_expired()),
        ),
        or_(turns.c.rung_at.is_(None), turns.c.rung_at < func.now() - seconds(bindparam("again_seconds"))),
    )
    .order_by(turns.c.available_at)
    .limit(bindparam("batch"))
    .with_for_update(skip_locked=True)
)
_TAKE_OVERDUE = (
    update(turns)
    .where(turns.c.id.in_(_OVERDUE))
    .values(rung_at=func.now())
    .returning(turns.c.organization_id, turns.c.id)
)
_PURGE_KEYS = delete(idempotency_keys).where(
    idempotency_keys.c.created_at < func.now() - seconds(bindparam("older_than_seconds"))
)


async def take_overdue_turns(
    connection: AsyncConnection,
    *,
    after_seconds: float,
    again_seconds: float,
    lease_seconds: float,
    batch: int,
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


async def purge_idempotency_keys(connection: AsyncConnection, *, older_than_seconds: float) -> int:
    """Forget what was answered to requests made longer ago than that, and return how many were forgotten."""
    result = await connection.execute(_PURGE_KEYS, {"older_than_seconds": older_than_seconds})
    return result.rowcount
