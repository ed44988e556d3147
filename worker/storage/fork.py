"""Forking: a new session begins with all that another had come to after one of its turns, and depends on it no further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import bindparam, insert, select
from uuid_utils.compat import uuid7

from worker.conversation.checkpoint import normalize_checkpoint
from worker.storage.branch import base_checkpoint, load_branch
from worker.storage.rewind import require_completed
from worker.storage.schema import sessions
from worker.storage.session_lock import check_revision, lock_session
from worker.storage.sessions import begin_checking_limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

_BEGINNING = select(sessions.c.checkpoint, sessions.c.initial_context).where(
    sessions.c.id == bindparam("session_id"), sessions.c.organization_id == bindparam("organization_id")
)
_INSERT = insert(sessions)


async def fork_session(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    session_id: UUID,
    turn_id: UUID | Literal["head"] | None,
    external_id: str | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
    expected_revision: int | None = None,
) -> UUID:
    """Create a session that goes on from a turn of another, running or ended, and return its id.

    It keeps that one's definition, settings and initial context. The whole conversation so far becomes the checkpoint it was
    created with, so that its source may be erased.

    Args:
        turn_id: a completed turn of whichever branch; `head` for the source's head, None for its beginning.

    Raises:
        SessionNotFound: when the organization has no such session.
        RevisionConflict: when `expected_revision` is given and is not the source's.
        TurnNotFound: when the source has no such turn.
        TurnNotCompleted: when the turn was not answered.
    """
    where: Any = {"organization_id": organization_id, "session_id": session_id}
    source = await lock_session(connection, **where)
    check_revision(source, expected_revision)
    from_turn_id = source.head_turn_id if turn_id == "head" else turn_id
    beginning = (await connection.execute(_BEGINNING, where)).one()
    if from_turn_id is None:
        checkpoint = normalize_checkpoint(beginning.checkpoint)
    else:
        await require_completed(connection, **where, turn_id=from_turn_id)
        branch = await load_branch(connection, organization_id=organization_id, turn_id=from_turn_id)
        checkpoint = base_checkpoint(branch, beginning.checkpoint)
    forked_id: UUID = uuid7()
    await connection.execute(
        _INSERT,
        {
            "id": forked_id,
            "organization_id": organization_id,
            "workflow_id": source.workflow_id,
            "definition_id": source.definition_id,
            "external_id": external_id,
            "metadata": dict(metadata or {}),
            "on_busy": source.on_busy,
            "merge_window_seconds": source.merge_window_seconds,
            "idle_limit_seconds": source.idle_limit_seconds,
            "duration_limit_seconds": source.duration_limit_seconds,
            "forked_from_session_id": session_id,
            "forked_from_turn_id": from_turn_id,
            "initial_context": beginning.initial_context,
            "checkpoint": checkpoint.to_json(),
        },
    )
    await begin_checking_limits(connection, organization_id=organization_id, session_id=forked_id)
    return forked_id
