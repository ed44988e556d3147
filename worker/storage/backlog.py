"""The backlog: turns that nothing stands before, waiting here until a worker has room for them, and who is next.

Celery is rung for no more turns than the workers can soon take, so that its queue, which knows no organizations, never
decides who waits for whom. That is decided here: of those that wait, the turn whose organization has the fewest running.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.storage.line import AT_HEAD_OF_LINE
from worker.storage.worker_processes import BUSY, CAPACITY

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Line:
    """A session's line, by its organization and session."""

    organization_id: UUID
    session_id: UUID


# The turns at the heads of lines, as far as they can be claimed now.
_HEADS = """
    SELECT head.*
    FROM unnest(CAST(:organization_ids AS uuid[]), CAST(:session_ids AS uuid[])) AS line (organization_id, session_id)
    CROSS JOIN LATERAL (
        SELECT turns.id, turns.organization_id, turns.status, turns.priority, turns.available_at, turns.rung_at FROM turns
        WHERE turns.session_id = line.session_id
          AND turns.organization_id = line.organization_id
          AND turns.status IN ('pending', 'running')
        ORDER BY turns.position
        LIMIT 1
    ) AS head
    WHERE head.status = 'pending' AND head.available_at <= now()
"""

ROOM_FOR_ONE_MORE = f"""
    NOT EXISTS (SELECT FROM turns AS other WHERE other.status = 'pending' AND other.waiting AND other.available_at <= now())
    AND (SELECT settings #> '{{limits,max_running_turns}}' IS NULL FROM organizations WHERE id = :organization_id)
    AND (SELECT count(*) FROM ({BUSY}) AS busy) < {CAPACITY}
"""
"""Part of a statement: a turn of `:organization_id` may be rung for as it is enqueued. Where others wait, or their number is
limited, it joins the backlog and is chosen from there."""

# Nearly always nothing waits, and then this is all there is to do after a turn.
_ANYTHING_TO_DO = text(f"""
    SELECT EXISTS ({_HEADS}) OR EXISTS (SELECT FROM turns WHERE status = 'pending' AND waiting AND available_at <= now())
""")

# An organization's n-th waiting turn stands behind n - 1 others and all that it has running: by that number the turns of all
# organizations are put in one order, so that each gets as much as the others, and one that has nothing running is next.
# A turn that others have locked is being chosen or claimed by them; a few candidates more than needed make up for those.
_CHOOSE = text(f"""
    WITH RECURSIVE head AS MATERIALIZED ({_HEADS}),
    busy AS MATERIALIZED ({BUSY}),
    load AS (SELECT organization_id, count(*) AS turns FROM busy GROUP BY organization_id),
    waiting_organization AS (
        (SELECT organization_id FROM turns WHERE status = 'pending' AND waiting ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT turns.organization_id FROM turns
            WHERE turns.status = 'pending' AND turns.waiting AND turns.organization_id > before.organization_id
            ORDER BY turns.organization_id
            LIMIT 1
        )
        FROM waiting_organization AS before
        WHERE before.organization_id IS NOT NULL
    ), candidate AS (
        SELECT oldest.id, waiting_organization.organization_id, oldest.priority, oldest.available_at
        FROM waiting_organization CROSS JOIN LATERAL (
            SELECT turns.id, turns.priority, turns.available_at FROM turns
            WHERE turns.organization_id = waiting_organization.organization_id
              AND turns.status = 'pending'
              AND turns.waiting
              AND turns.available_at <= now()
            ORDER BY turns.priority DESC, turns.available_at, turns.id
            LIMIT :at_most + :spare
        ) AS oldest
        UNION
        SELECT id, organization_id, priority, available_at FROM head WHERE rung_at IS NULL
    ), ranked AS (
        SELECT
            candidate.*,
            coalesce(load.turns, 0) + row_number() OVER (
                PARTITION BY candidate.organization_id
                ORDER BY candidate.priority DESC, candidate.available_at, candidate.id
            ) AS place
        FROM candidate LEFT JOIN load USING (organization_id)
    ), allowed AS (
        SELECT ranked.* FROM ranked JOIN organizations ON organizations.id = ranked.organization_id
        WHERE ranked.place <= coalesce(
            CAST(organizations.settings #>> '{{limits,max_running_turns}}' AS integer), ranked.place
        )
    ), chosen AS (
        SELECT turns.id FROM allowed JOIN turns ON turns.id = allowed.id
        WHERE turns.status = 'pending' AND {AT_HEAD_OF_LINE}
        ORDER BY allowed.place, allowed.available_at, allowed.id
        LIMIT greatest(0, least(:at_most, {CAPACITY} - (SELECT count(*) FROM busy)))
        FOR UPDATE OF turns SKIP LOCKED
    ), rung AS (
        UPDATE turns SET rung_at = now(), waiting = false FROM chosen
        WHERE turns.id = chosen.id
        RETURNING turns.organization_id, turns.id
    ), postponed AS (
        SELECT turns.id FROM head JOIN turns ON turns.id = head.id
        WHERE head.rung_at IS NULL AND NOT turns.waiting AND turns.id NOT IN (SELECT id FROM chosen)
        FOR UPDATE OF turns SKIP LOCKED
    ), kept AS (
        UPDATE turns SET waiting = true FROM postponed WHERE turns.id = postponed.id
    )
    SELECT organization_id, id FROM rung
    UNION ALL
    SELECT organization_id, id FROM head WHERE rung_at IS NOT NULL
""")
_SPARE_CANDIDATES = 8

_FORGET_RINGS = text("""
    UPDATE turns SET rung_at = NULL, waiting = (turns.status = 'pending')
    FROM (
        SELECT turns.id FROM turns
        JOIN unnest(CAST(:organization_ids AS uuid[]), CAST(:turn_ids AS uuid[])) AS rung (organization_id, turn_id)
          ON turns.organization_id = rung.organization_id AND turns.id = rung.turn_id
        WHERE turns.status IN ('pending', 'running')
        ORDER BY turns.id
        FOR UPDATE OF turns SKIP LOCKED
    ) AS unlocked
    WHERE turns.id = unlocked.id
""")


async def choose_turns(
    connection: AsyncConnection, *, lines: Collection[Line] = (), at_most: int
) -> list[tuple[UUID, UUID]]:
    """The turns to ring for now, as (organization id, turn id), each noted as rung.

    No more than the workers have room for, and no more of an organization than may run at once. The heads of `lines` join the
    backlog, if they can be claimed; those that a worker was rung for before are among the result, for a ring that came
    too early was dropped.
    """
    parameters: dict[str, Any] = {
        "organization_ids": [line.organization_id for line in lines],
        "session_ids": [line.session_id for line in lines],
    }
    if not await connection.scalar(_ANYTHING_TO_DO, parameters):
        return []
    rows = await connection.execute(_CHOOSE, {**parameters, "at_most": at_most, "spare": _SPARE_CANDIDATES})
    return [(row.organization_id, row.id) for row in rows]


async def forget_rings(connection: AsyncConnection, turns: Sequence[tuple[UUID, UUID]]) -> None:
    """Note that nobody was rung for these turns, given as (organization id, turn id): they are back in the backlog, or, if
    they run and their worker was lost, found by the next sweep.

    One that somebody else has locked is left as it is: whoever changes a turn knows of it.
    """
    organization_ids, turn_ids = zip(*turns, strict=True)
    await connection.execute(_FORGET_RINGS, {"organization_ids": list(organization_ids), "turn_ids": list(turn_ids)})
