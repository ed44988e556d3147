"""The journal of a turn's steps: written under the attempt's fence, read by the attempt that follows."""

from __future__ import annotations

from dataclasses import dataclass
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

# A turn goes on with another's work only while both go on from the same head.
_READ = text("""
    WITH RECURSIVE chain AS (
        SELECT id, parent_turn_id, carries_over_turn_id, retry_of_turn_id, 0 AS depth
        FROM turns WHERE id = :turn_id AND organization_id = :organization_id
        UNION ALL
        SELECT turns.id, turns.parent_turn_id, turns.carries_over_turn_id, turns.retry_of_turn_id, chain.depth + 1
        FROM chain JOIN turns ON turns.id = chain.carries_over_turn_id
        WHERE turns.organization_id = :organization_id
          AND turns.parent_turn_id IS NOT DISTINCT FROM chain.parent_turn_id
    )
    SELECT chain.id, chain.retry_of_turn_id IS NOT NULL AS is_retry, journal_steps.number, journal_steps.step
    FROM chain
    LEFT JOIN journal_steps ON journal_steps.turn_id = chain.id AND journal_steps.organization_id = :organization_id
    ORDER BY chain.depth DESC, journal_steps.number
""")


@dataclass(frozen=True, slots=True)
class TurnSteps:
    """The journal of one turn.

    Attributes:
        is_retry: Whether the turn tries the one before it again, and does not interrupt it, if there is one before it.
        steps: Its steps, oldest first.
    """

    is_retry: bool
    steps: list[JsonValue]


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


async def read_journals(connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID) -> list[TurnSteps]:
    """Read the journal of a turn, behind those of the turns whose work it carries on, oldest first."""
    result = await connection.execute(_READ, {"turn_id": turn_id, "organization_id": organization_id})
    journals: dict[UUID, TurnSteps] = {}
    for row in result:
        journal = journals.setdefault(row.id, TurnSteps(row.is_retry, []))
        if row.number is not None:
            journal.steps.append(row.step)
    return list(journals.values())
