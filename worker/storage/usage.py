"""The ledger of what LLM calls cost. Insert-only, and the one write that no fence guards: what ran was paid for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy.dialects.postgresql import insert

from worker.storage.schema import usage_entries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEntry:
    """One LLM call of one attempt; all counts are tokens."""

    organization_id: UUID
    turn_id: UUID
    attempt: int
    call: int
    processor: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int


_INSERT = insert(usage_entries).on_conflict_do_nothing()


async def record_usage(connection: AsyncConnection, entries: Sequence[UsageEntry]) -> None:
    """Write entries. One that is already there (same turn, attempt and call) is left as it is, so repeating is safe."""
    if entries:
        await connection.execute(_INSERT, [asdict(entry) for entry in entries])
