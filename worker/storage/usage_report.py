"""What was used, summed up from the ledger: of a turn, of a session, of an organization over time.

The ledger has every call that a provider answered, also those of attempts that failed, were cancelled or got lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection

Grouping = Literal["day", "model", "workflow", "session", "purpose"]


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """What the calls of one model used.

    Attributes:
        prompt_tokens: In the provider's own counting, with or without what a cache held or took.
        total_tokens: Everything, counted once.
    """

    processor: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """What the calls with the same `key` used, by model; the key is None where what it named was erased."""

    key: str | None
    models: tuple[ModelTotals, ...]


# Of a call whose session was erased only the ledger is left.
_SESSION_OF_TURN: Final = """
    LEFT JOIN turns ON turns.id = used.turn_id AND turns.organization_id = used.organization_id
"""
_KEYS: Final[dict[Grouping | None, tuple[str, str]]] = {
    None: ("''", ""),
    "day": ("to_char(used.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", ""),
    "model": ("used.model", ""),
    "purpose": ("used.purpose", ""),
    "session": ("coalesce(CAST(turns.session_id AS text), '')", _SESSION_OF_TURN),
    "workflow": (
        "coalesce(CAST(sessions.workflow_id AS text), '')",
        f"""{_SESSION_OF_TURN}
        LEFT JOIN sessions ON sessions.id = turns.session_id AND sessions.organization_id = used.organization_id""",
    ),
}
GROUPINGS: Final[tuple[Grouping, ...]] = get_args(Grouping)
"""By what the usage of an organization can be grouped."""

_SUMS: Final = """
    count(*) AS calls,
    sum(used.prompt_tokens) AS prompt_tokens,
    sum(used.completion_tokens) AS completion_tokens,
    sum(used.total_tokens) AS total_tokens,
    sum(used.cache_read_input_tokens) AS cache_read_input_tokens,
    sum(used.cache_creation_input_tokens) AS cache_creation_input_tokens
"""


def _report(key: str, joins: str) -> TextClause:
    return text(f"""
        WITH summed AS (
            SELECT {key} AS key, used.processor, used.model, {_SUMS}
            FROM usage_entries AS used {joins}
            WHERE used.organization_id = :organization_id
              AND used.created_at >= :since AND used.created_at < :until
            GROUP BY 1, 2, 3
        ), page AS (
            SELECT key FROM summed
            WHERE CAST(:after AS text) IS NULL OR key COLLATE "C" > CAST(:after AS text)
            GROUP BY key ORDER BY key COLLATE "C" LIMIT :limit
        )
        SELECT summed.* FROM summed JOIN page USING (key) ORDER BY key COLLATE "C", processor, model
    """)


_REPORTS: Final = {grouping: _report(*parts) for grouping, parts in _KEYS.items()}
_OF_TURN: Final = text(f"""
    SELECT used.processor, used.model, {_SUMS}
    FROM usage_entries AS used
    WHERE used.turn_id = :turn_id AND used.organization_id = :organization_id
    GROUP BY 1, 2 ORDER BY 1, 2
""")
_OF_SESSION: Final = text(f"""
    SELECT used.processor, used.model, {_SUMS}
    FROM turns JOIN usage_entries AS used ON used.turn_id = turns.id AND used.organization_id = turns.organization_id
    WHERE turns.session_id = :session_id AND turns.organization_id = :organization_id
    GROUP BY 1, 2 ORDER BY 1, 2
""")
_TURN_EXISTS: Final = text("SELECT 1 FROM turns WHERE id = :id AND organization_id = :organization_id")
_SESSION_EXISTS: Final = text("SELECT 1 FROM sessions WHERE id = :id AND organization_id = :organization_id")


async def turn_usage(
    connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID
) -> tuple[ModelTotals, ...] | None:
    """What all attempts at a turn used, by model; None if the organization has no such turn."""
    if await connection.scalar(_TURN_EXISTS, {"id": turn_id, "organization_id": organization_id}) is None:
        return None
    rows = await connection.execute(_OF_TURN, {"turn_id": turn_id, "organization_id": organization_id})
    return tuple(map(_totals, rows))


async def session_usage(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID
) -> tuple[ModelTotals, ...] | None:
    """What all turns of a session used, by model; None if the organization has no such session."""
    if await connection.scalar(_SESSION_EXISTS, {"id": session_id, "organization_id": organization_id}) is None:
        return None
    rows = await connection.execute(_OF_SESSION, {"session_id": session_id, "organization_id": organization_id})
    return tuple(map(_totals, rows))


async def organization_usage(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    since: datetime,
    until: datetime,
    group_by: Grouping | None,
    limit: int,
    after: str | None = None,
) -> list[UsageGroup]:
    """What the organization used from `since` until before `until`, in the order of the groups' keys.

    Args:
        group_by: What the key of a group is; None for one group of everything.
        limit: How many groups at most.
        after: The key of the last group of the page before.
    """
    rows = await connection.execute(
        _REPORTS[group_by],
        {"organization_id": organization_id, "since": since, "until": until, "limit": limit, "after": after},
    )
    return list(_groups(rows))


def _groups(rows: Iterable[Row[Any]]) -> Iterable[UsageGroup]:
    groups: dict[str, list[ModelTotals]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(_totals(row))
    return (UsageGroup(key or None, tuple(models)) for key, models in groups.items())


def _totals(row: Row[Any]) -> ModelTotals:
    return ModelTotals(
        row.processor,
        row.model,
        row.calls,
        int(row.prompt_tokens),
        int(row.completion_tokens),
        int(row.total_tokens),
        int(row.cache_read_input_tokens),
        int(row.cache_creation_input_tokens),
    )
