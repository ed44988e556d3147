"""The ledger of what LLM calls cost. Insert-only, and the one write that no fence guards: what ran was paid for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from worker.storage.database import to_json

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
    purpose: str = "conversation"


_TYPES: Final = {"organization_id": "uuid", "turn_id": "uuid", "processor": "text", "model": "text", "purpose": "text"}
_COLUMNS: Final = {field.name: _TYPES.get(field.name, "integer") for field in fields(UsageEntry)}

RECORD_USAGE: Final = f"""
    INSERT INTO usage_entries ({", ".join(_COLUMNS)})
    SELECT {", ".join(_COLUMNS)}
    FROM json_to_recordset(CAST(:usage AS json)) AS used ({", ".join(f"{name} {type_}" for name, type_ in _COLUMNS.items())})
    ON CONFLICT DO NOTHING
"""
"""A statement, or part of one. An entry that is already there is left as it is, so repeating is safe."""

_RECORD_USAGE = text(RECORD_USAGE)


def usage_parameters(entries: Sequence[UsageEntry]) -> dict[str, Any]:
    """The parameters of `RECORD_USAGE`."""
    rows = [
        asdict(entry) | {"organization_id": str(entry.organization_id), "turn_id": str(entry.turn_id)}
        for entry in entries
    ]
    return {"usage": to_json(rows)}


async def record_usage(connection: AsyncConnection, entries: Sequence[UsageEntry]) -> None:
    """Write entries. One that is already there (same turn, attempt and call) is left as it is."""
    if entries:
        await connection.execute(_RECORD_USAGE, usage_parameters(entries))
