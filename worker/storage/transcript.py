"""The transcript of a session: who said what when, along the branch that leads to its head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.conversation.usage import LLMUsage, Usage, usage_key
from worker.conversation.user_message import UserMessage

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that was said.

    Attributes:
        role: `user` or `assistant`.
        created_at: When it was said: a user's as it was enqueued, the assistant's as its answer was ready.
        turn_id: The turn it belongs to.
        images: What a user showed with it, without the pictures themselves.
    """

    role: str
    text: str
    created_at: datetime
    turn_id: UUID
    images: list[dict[str, JsonValue]] = field(default_factory=list)


_BRANCH = text("""
    WITH RECURSIVE branch AS (
        SELECT turns.id, turns.parent_turn_id, 0 AS depth
        FROM turns JOIN sessions ON sessions.head_turn_id = turns.id
        WHERE sessions.id = :session_id
          AND sessions.organization_id = :organization_id
          AND turns.organization_id = :organization_id
        UNION ALL
        SELECT turns.id, turns.parent_turn_id, branch.depth + 1
        FROM turns JOIN branch ON turns.id = branch.parent_turn_id
        WHERE turns.organization_id = :organization_id
    )
    SELECT turns.id, turns.user_messages, turns.created_at, turns.assistant_text,
           coalesce(turns.assistant_created_at, turns.ended_at) AS assistant_created_at
    FROM branch JOIN turns ON turns.id = branch.id AND turns.organization_id = :organization_id
    ORDER BY branch.depth DESC
""")
_USAGE = text("""
    SELECT used.processor, used.model,
           sum(used.prompt_tokens) AS prompt_tokens,
           sum(used.completion_tokens) AS completion_tokens,
           sum(used.total_tokens) AS total_tokens,
           sum(used.cache_read_input_tokens) AS cache_read_input_tokens,
           sum(used.cache_creation_input_tokens) AS cache_creation_input_tokens
    FROM turns
    JOIN usage_entries AS used ON used.turn_id = turns.id AND used.organization_id = turns.organization_id
    WHERE turns.session_id = :session_id AND turns.organization_id = :organization_id
    GROUP BY used.processor, used.model
    ORDER BY used.processor, used.model
""")


async def read_transcript(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> list[Utterance]:
    """Everything that was said on the way to the session's head, oldest first. What was abandoned is not part of it."""
    rows = await connection.execute(_BRANCH, {"organization_id": organization_id, "session_id": session_id})
    said = []
    for row in rows:
        for stored in row.user_messages:
            message = UserMessage.from_json(stored)
            images = [image.summary() for image in message.images]
            said.append(Utterance("user", message.text, row.created_at, row.id, images))
        if row.assistant_text is not None:
            said.append(Utterance("assistant", row.assistant_text, row.assistant_created_at, row.id))
    return said


async def session_usage(connection: AsyncConnection, *, organization_id: UUID, session_id: UUID) -> Usage:
    """What all turns of the session used, failed and cancelled attempts and abandoned branches included."""
    rows = await connection.execute(_USAGE, {"organization_id": organization_id, "session_id": session_id})
    return Usage(llm={usage_key(processor, model): LLMUsage(*counts) for processor, model, *counts in rows})
