"""The journal of a turn's steps: written under the attempt's fence, read by the attempt that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.storage.attempts import LeaseLost
from worker.storage.database import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.claim import Attempt

# The turn's row is locked against a claim that is under way: whoever claims next reads these steps or they are refused.
# It is the only lock taken, so nobody can wait for it in a circle.
_WRITE = text("""
    WITH mine AS (
        SELECT id, organization_id FROM turns
        WHERE id = :turn_id AND organization_id = :organization_id AND attempt = :attempt AND status = 'running'
        FOR SHARE
    ), written AS (
        INSERT INTO journal_steps (organization_id, turn_id, number, attempt, step)
        SELECT mine.organization_id, mine.id, :after + step.number, :attempt, CAST(step.content AS json)
        FROM mine, unnest(CAST(:steps AS text[])) WITH ORDINALITY AS step (content, number)
        ON CONFLICT DO NOTHING
    )
    SELECT FROM mine
""")

_READ = text("""
    SELECT step FROM journal_steps
    WHERE turn_id = :turn_id AND organization_id = :organization_id
    ORDER BY number
""")


async def write_steps(connection: AsyncConnection, attempt: Attempt, *, after: int, steps: Sequence[JsonValue]) -> None:
    """Write steps behind the `after` ones that the turn has, all or none. Repeating it does no harm.

    Raises:
        LeaseLost: when this attempt no longer holds the turn; nothing was written.
    """
    result = await connection.execute(
        _WRITE,
        {
            "turn_id": attempt.turn_id,
            "organization_id": attempt.organization_id,
            "attempt": attempt.attempt,
            "after": after,
            "steps": [to_json(step) for step in steps],
        },
    )
    if result.one_or_none() is None:
        raise LeaseLost(attempt.turn_id, attempt.attempt)


async def read_steps(connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID) -> list[JsonValue]:
    """Read the steps of a turn, oldest first."""
    result = await connection.execute(_READ, {"turn_id": turn_id, "organization_id": organization_id})
    return [row.step for row in result]
