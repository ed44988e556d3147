"""The conversation along one branch of a session's tree of turns, rebuilt from what each turn added."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, literal, select

from worker.conversation.checkpoint import Checkpoint, normalize_checkpoint
from worker.storage.schema import messages, turns

if TYPE_CHECKING:
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Branch:
    """What is stored of the conversation up to and including one turn.

    Attributes:
        checkpoint: The turn's checkpoint without its messages; None if it stored none.
        messages: The context's messages that turns of the branch added, oldest first.
        from_beginning: No turn of the branch replaced the context, so the session's own checkpoint's messages come first.
    """

    checkpoint: dict[str, JsonValue] | None
    messages: list[dict[str, Any]]
    from_beginning: bool


def _branch_statement() -> Any:
    head = (
        select(
            turns.c.id,
            turns.c.parent_turn_id,
            turns.c.replaces_context,
            turns.c.checkpoint,
            literal(0).label("depth"),
        )
        .where(turns.c.id == bindparam("turn_id"), turns.c.organization_id == bindparam("organization_id"))
        .cte("branch", recursive=True)
    )
    ancestors = select(
        turns.c.id,
        turns.c.parent_turn_id,
        turns.c.replaces_context,
        # Only the head's checkpoint counts; older ones are not even read.
        literal(None, turns.c.checkpoint.type).label("checkpoint"),
        (head.c.depth + 1).label("depth"),
    ).where(turns.c.id == head.c.parent_turn_id, head.c.replaces_context.is_(False))
    branch = head.union_all(ancestors)
    return (
        select(branch.c.depth, branch.c.checkpoint, branch.c.replaces_context, messages.c.message)
        .select_from(branch)
        .join(
            messages,
            and_(messages.c.turn_id == branch.c.id, messages.c.organization_id == bindparam("organization_id")),
            isouter=True,
        )
        .order_by(branch.c.depth.desc(), messages.c.ordinal)
    )


_BRANCH = _branch_statement()


async def load_branch(connection: AsyncConnection, *, organization_id: UUID, turn_id: UUID | None) -> Branch:
    """Rebuild what the turns from the branch's beginning (or its last replaced context) to `turn_id` stored.

    `turn_id` None is the branch with no turn at all.
    """
    if turn_id is None:
        return Branch(None, [], from_beginning=True)
    result = await connection.execute(_BRANCH, {"organization_id": organization_id, "turn_id": turn_id})
    rows = result.all()
    head = rows[-1]
    return Branch(
        checkpoint=head.checkpoint,
        messages=[row.message for row in rows if row.message is not None],
        from_beginning=not rows[0].replaces_context,
    )


def base_checkpoint(branch: Branch, session_checkpoint: object) -> Checkpoint:
    """The checkpoint a turn starts from: the one stored after its nearest completed ancestor.

    Only that ancestor counts: if it stored none, the turn starts from the default one.
    """
    if branch.checkpoint is None:
        return Checkpoint()
    checkpoint = normalize_checkpoint(branch.checkpoint)
    beginning = normalize_checkpoint(session_checkpoint).messages if branch.from_beginning else []
    return replace(checkpoint, messages=[*beginning, *branch.messages])
