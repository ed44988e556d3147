"""What was lost on the way, over all organizations: turns nobody was told of, attempts nobody renews, keys grown old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, text

from worker.storage.backlog import choose_turns
from worker.storage.line import AT_HEAD_OF_LINE, LEASE_EXPIRY
from worker.storage.schema import idempotency_keys

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

# A ring that led to no claim was lost, or came too early; a turn that nobody noticed at the head of its line was freed by
# a process that ended before it said so. Behind others, a turn is the business of whoever ends the one before it.
_RETURN_TO_BACKLOG = text(f"""
    UPDATE turns SET rung_at = NULL, waiting = {AT_HEAD_OF_LINE}
    WHERE id IN (
        SELECT turns.id FROM turns
        WHERE turns.status = 'pending'
          AND (
            turns.rung_at < now() - make_interval(secs => :again_seconds)
            OR (
                turns.rung_at IS NULL
                AND NOT turns.waiting
                AND turns.available_at < now() - make_interval(secs => :after_seconds)
                AND {AT_HEAD_OF_LINE}
            )
          )
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
""")
_TAKE_EXPIRED = text(f"""
    UPDATE turns SET rung_at = now()
    WHERE id IN (
        SELECT turns.id FROM turns
        WHERE turns.status = 'running'
          AND {LEASE_EXPIRY} < now()
          AND (turns.rung_at IS NULL OR turns.rung_at < now() - make_interval(secs => :again_seconds))
        ORDER BY turns.lease_expires_at
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
    RETURNING organization_id, id
""")
# The moment from which on _TAKE_EXPIRED takes a turn, as long as nobody renews its lease.
_SECONDS_TO_EXPIRY = text(f"""
    SELECT CAST(extract(epoch FROM min(
        greatest({LEASE_EXPIRY}, turns.rung_at + make_interval(secs => :again_seconds))
    ) - now()) AS double precision)
    FROM turns
    WHERE status = 'running'
""")
# By the index of pending turns: the second part stops at the first one that nothing stands before.
_WAITING = text(f"""
    SELECT
        (SELECT count(*) FROM turns WHERE status = 'pending' AND available_at <= now()) AS depth,
        coalesce((
            SELECT CAST(extract(epoch FROM now() - turns.available_at) AS double precision)
            FROM turns
            WHERE turns.status = 'pending' AND turns.available_at <= now() AND {AT_HEAD_OF_LINE}
            ORDER BY turns.available_at
            LIMIT 1
        ), 0) AS age_seconds
""")
_PURGE_KEYS = delete(idempotency_keys).where(
    idempotency_keys.c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("older_than_seconds"))
)


async def waiting_turns(connection: AsyncConnection) -> tuple[int, float]:
    """How many turns of all organizations are due, those behind others in line included, and how long one could be claimed."""
    row = (await connection.execute(_WAITING)).one()
    return row.depth, row.age_seconds


async def take_expired_turns(
    connection: AsyncConnection, *, again_seconds: float, lease_seconds: float, batch: int
) -> list[tuple[UUID, UUID]]:
    """Running turns whose lease has expired, as (organization id, turn id), each noted as rung now.

    One that was rung for and not claimed is among them again after `again_seconds`. Several at once take different turns.
    """
    limits = {"again_seconds": again_seconds, "lease_seconds": lease_seconds, "batch": batch}
    rows = await connection.execute(_TAKE_EXPIRED, limits)
    return [(row.organization_id, row.id) for row in rows]


async def seconds_to_expiry(connection: AsyncConnection, *, again_seconds: float, lease_seconds: float) -> float | None:
    """How long it is until `take_expired_turns` finds a turn, as long as nobody renews its lease; None if no turn runs.

    Where workers are well it never comes to that: they renew their leases long before.
    """
    limits = {"again_seconds": again_seconds, "lease_seconds": lease_seconds}
    seconds: float | None = await connection.scalar(_SECONDS_TO_EXPIRY, limits)
    return seconds


async def take_overdue_turns(
    connection: AsyncConnection, *, after_seconds: float, again_seconds: float, batch: int
) -> list[tuple[UUID, UUID]]:
    """As many pending turns as there is room for, as (organization id, turn id), each noted as rung now.

    These are of what waits, of what was rung for `again_seconds` ago without being claimed, and of what has been at the head
    of its line for `after_seconds` without anybody noticing. Several sweeps at once take different turns.
    """
    limits = {"after_seconds": after_seconds, "again_seconds": again_seconds, "batch": batch}
    await connection.execute(_RETURN_TO_BACKLOG, limits)
    return await choose_turns(connection, at_most=batch)


async def purge_idempotency_keys(connection: AsyncConnection, *, older_than_seconds: float) -> int:
    """Forget what was answered to requests made longer ago than that, and return how many were forgotten."""
    result = await connection.execute(_PURGE_KEYS, {"older_than_seconds": older_than_seconds})
    return result.rowcount
