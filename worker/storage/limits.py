"""What an organization may enqueue: looked at before a turn is written, and only for organizations that have such limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.workflow.organization_settings import Limits

# Turns end all the time; when the next place is free, nobody knows.
_PENDING_RETRY_SECONDS = 1


class LimitReached(TurnWorkerError):
    """The organization has used up what it may enqueue for now. Nothing was stored.

    Attributes:
        limit: Which of its limits, as the settings call it.
        allowed: Where that limit stands.
        retry_after_seconds: When asking again may succeed.
    """

    code = "limit_reached"
    retryable = True

    def __init__(self, limit: str, allowed: int, retry_after_seconds: int) -> None:
        super().__init__(limit, allowed, retry_after_seconds)
        self.limit = limit
        self.allowed = allowed
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return (
            f"The organization is at its limit: {self.limit} is {self.allowed}. Nothing was enqueued. Try again after "
            f"{self.retry_after_seconds} s, or ask the operator for more."
        )


# Whoever enqueues for an organization with limits does so one after the other; that makes the counts exact.
_LOCK = text("SELECT FROM organizations WHERE id = :organization_id FOR NO KEY UPDATE")
_PENDING = text("""
    SELECT count(*) FROM (
        SELECT FROM turns WHERE organization_id = :organization_id AND status = 'pending' LIMIT :allowed
    ) AS waiting
""")
_TOKENS = text("""
    SELECT
        coalesce(sum(total_tokens), 0) AS used,
        CAST(extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '1 day' - now()) AS double precision) AS left_today
    FROM usage_entries
    WHERE organization_id = :organization_id AND created_at >= date_trunc('day', now(), 'UTC')
""")
# A bucket that holds a minute's worth and fills evenly. Its clock is the moment of the lock, not of the transaction's begin.
_TAKE = text("""
    WITH bucket AS (
        SELECT least(
            CAST(:allowed AS double precision),
            available + extract(epoch FROM clock_timestamp() - refilled_at) * :allowed / 60.0
        ) AS available
        FROM enqueue_rates WHERE organization_id = :organization_id
        UNION ALL
        SELECT :allowed
        WHERE NOT EXISTS (SELECT FROM enqueue_rates WHERE organization_id = :organization_id)
    ), taken AS (
        INSERT INTO enqueue_rates (organization_id, available, refilled_at)
        SELECT :organization_id, available - 1, clock_timestamp() FROM bucket WHERE available >= 1
        ON CONFLICT (organization_id)
        DO UPDATE SET available = excluded.available, refilled_at = excluded.refilled_at
        RETURNING 1
    )
    SELECT available, EXISTS (SELECT FROM taken) AS is_taken FROM bucket
""")


async def check_enqueue(connection: AsyncConnection, *, organization_id: UUID, limits: Limits) -> None:
    """Count one more turn against the organization's limits, in the transaction that then writes it.

    Raises:
        LimitReached: when it is one too many. The transaction must be rolled back.
    """
    if not limits.restrict_enqueueing:
        return
    await connection.execute(_LOCK, {"organization_id": organization_id})
    await _check_pending(connection, organization_id, limits.max_pending_turns)
    await _check_tokens(connection, organization_id, limits.tokens_per_day)
    await _check_rate(connection, organization_id, limits.enqueue_per_minute)


async def _check_pending(connection: AsyncConnection, organization_id: UUID, allowed: int | None) -> None:
    if allowed is None:
        return
    count = await connection.scalar(_PENDING, {"organization_id": organization_id, "allowed": allowed})
    if (count or 0) >= allowed:
        raise LimitReached("max_pending_turns", allowed, _PENDING_RETRY_SECONDS)


async def _check_tokens(connection: AsyncConnection, organization_id: UUID, allowed: int | None) -> None:
    if allowed is None:
        return
    row = (await connection.execute(_TOKENS, {"organization_id": organization_id})).one()
    if row.used >= allowed:
        raise LimitReached("tokens_per_day", allowed, math.ceil(row.left_today))


async def _check_rate(connection: AsyncConnection, organization_id: UUID, allowed: int | None) -> None:
    if allowed is None:
        return
    row = (await connection.execute(_TAKE, {"organization_id": organization_id, "allowed": allowed})).one()
    if not row.is_taken:
        raise LimitReached("enqueue_per_minute", allowed, math.ceil((1 - row.available) * 60 / allowed))
