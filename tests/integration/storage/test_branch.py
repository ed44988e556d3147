"""The conversation along a branch, rebuilt from what each turn added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.conversation.checkpoint import Checkpoint
from worker.storage.branch import Branch, base_checkpoint, load_branch

if TYPE_CHECKING:
    from uuid import UUID

    from pydantic import JsonValue

    from tests.world import World


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


async def branch_of(world: World, turn_id: UUID | None) -> Branch:
    async with world.database.statement() as connection:
        return await load_branch(connection, organization_id=world.organization_id, turn_id=turn_id)


async def test_a_branch_is_the_messages_of_its_turns_in_order_and_the_checkpoint_of_its_last(world: World) -> None:
    session = await world.session()
    await world.turn(session.session_id, messages=said("a", "b"), checkpoint={"version": 1, "n": 1})
    last = await world.turn(session.session_id, messages=said("c"), checkpoint={"version": 1, "n": 2})
    branch = await branch_of(world, last)
    assert branch == Branch({"version": 1, "n": 2}, said("a", "b", "c"), from_beginning=True)


async def test_rebuilding_starts_at_the_last_turn_that_replaced_the_context(world: World) -> None:
    session = await world.session()
    await world.turn(session.session_id, messages=said("a"))
    await world.turn(session.session_id, messages=said("summary"), replaces_context=True)
    last = await world.turn(session.session_id, messages=said("c"))
    branch = await branch_of(world, last)
    assert (branch.messages, branch.from_beginning) == (said("summary", "c"), False)


async def test_failed_turns_leave_no_trace_in_the_branch(world: World) -> None:
    session = await world.session()
    await world.turn(session.session_id, messages=said("a"))
    failing = await world.enqueue(session.session_id, "lost")
    await world.fail((await world.claim(failing.turn_id)).attempt)
    last = await world.turn(session.session_id, messages=said("b"))
    assert (await branch_of(world, last)).messages == said("a", "b")


async def test_turns_without_messages_do_not_break_a_branch(world: World) -> None:
    session = await world.session()
    await world.turn(session.session_id, messages=said("a"))
    last = await world.turn(session.session_id, messages=[], checkpoint={"version": 1})
    branch = await branch_of(world, last)
    assert (branch.messages, branch.checkpoint) == (said("a"), {"version": 1})


async def test_messages_come_back_to_the_letter(world: World) -> None:
    awkward = [{"z": 1, "a": [1.0, True, None, "\u0000 \ud800 é 🎉"], "signature": "x" * 5000}]
    session = await world.session()
    last = await world.turn(session.session_id, messages=awkward)
    stored = (await branch_of(world, last)).messages
    assert stored == awkward
    assert list(stored[0]) == ["z", "a", "signature"]


async def test_turn_200_stores_no_more_than_turn_2(world: World) -> None:
    session = await world.session()
    for _ in range(200):
        await world.turn(session.session_id, messages=said("x" * 400))
    rows = await world.rows(
        "SELECT sum(pg_column_size(t.*)) + (SELECT sum(pg_column_size(m.*)) FROM messages m WHERE m.turn_id = t.id) AS size "
        "FROM turns t GROUP BY t.id, t.position ORDER BY t.position"
    )
    assert rows[199].size <= rows[1].size


def test_the_base_checkpoint_without_any_turn_is_the_default_one() -> None:
    assert base_checkpoint(Branch(None, [], from_beginning=True), None) == Checkpoint()


def test_an_ancestor_without_a_checkpoint_means_the_default_one_and_no_look_further() -> None:
    branch = Branch(None, said("a"), from_beginning=True)
    assert base_checkpoint(branch, {"messages": said("session")}) == Checkpoint()


def test_the_sessions_own_messages_come_first_unless_a_turn_replaced_the_context() -> None:
    own = {"messages": said("own")}
    stored: dict[str, JsonValue] = {"version": 1, "current_node_id": "start"}
    whole = base_checkpoint(Branch(stored, said("a"), from_beginning=True), own)
    assert (whole.messages, whole.current_node_id) == (said("own", "a"), "start")
    replaced = base_checkpoint(Branch(stored, said("a"), from_beginning=False), own)
    assert replaced.messages == said("a")
