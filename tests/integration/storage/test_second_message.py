"""A further message while the session is busy: what each policy does, and what it does at the very edge."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from tests.world import completion
from worker.storage.attempts import LeaseLost, complete_turn
from worker.storage.enqueue import OtherPolicyApplies
from worker.storage.second_message import MAX_MERGED_MESSAGES
from worker.storage.session_lock import RevisionConflict, SessionBusy, SessionEnded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.world import World
    from worker.storage.claim import Attempt
    from worker.storage.enqueue import EnqueuedTurn


async def running(world: World, message: str = "The first.", **session: Any) -> tuple[EnqueuedTurn, Attempt]:
    turn = await world.enqueue((await world.session(**session)).session_id, message, on_busy="enqueue")
    return turn, (await world.claim(turn.turn_id)).attempt


async def statuses(world: World, session_id: UUID) -> list[str]:
    rows = await world.rows("SELECT status FROM turns WHERE session_id = :id ORDER BY position", id=session_id)
    return [row.status for row in rows]


async def texts(world: World, turn_id: UUID) -> list[str]:
    return [message["text"] for message in (await world.row("turns", turn_id)).user_messages]


async def waiting_for_locks(world: World, count: int) -> None:
    """Until so many connections of this database wait for a lock."""
    async with asyncio.timeout(10):
        while (
            await world.rows(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )[0].n < count:
            pass


@asynccontextmanager
async def completing_at_the_same_moment(world: World, attempt: Attempt) -> AsyncIterator[None]:
    """While the block waits for the session's lock, the running turn is completed; both are under way at once."""
    async with world.database.transaction() as connection:
        await complete_turn(connection, attempt, completion())
        yield
        # The block has started what it wants to do; it stands before the lock that this transaction holds.
        await waiting_for_locks(world, 1)


async def test_a_message_is_taken_by_the_policy_of_its_session_if_it_names_none(world: World) -> None:
    turn, _ = await running(world, on_busy="reject")
    with pytest.raises(OtherPolicyApplies):
        await world.enqueue(turn.session_id)
    with pytest.raises(SessionBusy):
        await world.say(turn.session_id)
    assert (await world.say(turn.session_id, on_busy="enqueue")).position == 2


async def test_reject_refuses_while_a_turn_is_pending_or_running_and_accepts_afterwards(world: World) -> None:
    turn, attempt = await running(world)
    with pytest.raises(SessionBusy, match=f"turn {turn.turn_id} is running"):
        await world.say(turn.session_id, on_busy="reject")
    await world.complete(attempt)
    assert (await world.say(turn.session_id, on_busy="reject")).claimable


async def test_reject_beside_a_completion_at_the_same_moment_sees_that_it_is_over(world: World) -> None:
    turn, attempt = await running(world)
    async with completing_at_the_same_moment(world, attempt):
        saying = asyncio.create_task(world.say(turn.session_id, on_busy="reject"))
    assert (await saying).claimable


async def test_two_messages_at_once_of_which_reject_takes_one(world: World) -> None:
    session_id = (await world.session(on_busy="reject")).session_id
    outcomes = await asyncio.gather(*(world.say(session_id) for _ in range(4)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EnqueuedTurn", *["SessionBusy"] * 3]


async def test_interrupt_cancels_what_runs_and_answers_its_message_together_with_the_new_one(world: World) -> None:
    turn, attempt = await running(world)
    interrupting = await world.say(turn.session_id, "The second.", on_busy="interrupt")
    assert await statuses(world, turn.session_id) == ["cancelled", "pending"]
    row = await world.row("turns", interrupting.turn_id)
    assert row.user_messages == [{"text": "The first.", "turn_id": str(turn.turn_id)}, {"text": "The second."}]
    assert row.carries_over_turn_id == turn.turn_id
    assert (await world.row("turns", turn.turn_id)).error["code"] == "interrupted"
    assert [event.type for event in interrupting.events] == ["turn.cancelled", "turn.enqueued"]
    assert interrupting.claimable
    with pytest.raises(LeaseLost):
        await world.complete(attempt)
    claimed = await world.claim(interrupting.turn_id)
    assert claimed.carries_over_turn_id == turn.turn_id


async def test_interrupt_takes_over_all_that_waits_behind_and_every_message_keeps_its_place(world: World) -> None:
    turn, _ = await running(world)
    await world.enqueue(turn.session_id, "The second.")
    await world.say(turn.session_id, "The third.", on_busy="interrupt")
    last = await world.say(turn.session_id, "The fourth.", on_busy="interrupt")
    assert await statuses(world, turn.session_id) == ["cancelled", "cancelled", "cancelled", "pending"]
    assert await texts(world, last.turn_id) == ["The first.", "The second.", "The third.", "The fourth."]
    # The third was never begun, so the fourth goes on with what the first had done.
    assert (await world.row("turns", last.turn_id)).carries_over_turn_id == turn.turn_id


async def test_interrupt_beside_a_completion_at_the_same_moment_interrupts_nothing(world: World) -> None:
    turn, attempt = await running(world)
    async with completing_at_the_same_moment(world, attempt):
        saying = asyncio.create_task(world.say(turn.session_id, "The second.", on_busy="interrupt"))
    following = await saying
    assert await statuses(world, turn.session_id) == ["completed", "pending"]
    assert await texts(world, following.turn_id) == ["The second."]
    assert (await world.claim(following.turn_id)).parent_turn_id == turn.turn_id


async def test_a_completion_that_comes_after_an_interrupt_by_a_hair_is_refused(world: World) -> None:
    turn, attempt = await running(world)
    async with world.database.transaction() as connection:
        await connection.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": turn.session_id})
        saying = asyncio.create_task(world.say(turn.session_id, on_busy="interrupt"))
        await waiting_for_locks(world, 1)
        completing = asyncio.create_task(world.complete(attempt))
        await waiting_for_locks(world, 2)
    await saying
    with pytest.raises(LeaseLost):
        await completing
    assert await statuses(world, turn.session_id) == ["cancelled", "pending"]


async def test_replace_cancels_what_runs_and_forgets_its_message(world: World) -> None:
    turn, attempt = await running(world)
    replacing = await world.say(turn.session_id, "The second.", on_busy="replace")
    assert await statuses(world, turn.session_id) == ["cancelled", "pending"]
    assert await texts(world, replacing.turn_id) == ["The second."]
    assert (await world.row("turns", replacing.turn_id)).carries_over_turn_id is None
    assert (await world.row("turns", turn.turn_id)).error["code"] == "replaced"
    with pytest.raises(LeaseLost):
        await world.complete(attempt)


async def test_replace_keeps_the_messages_that_an_interrupt_had_kept(world: World) -> None:
    turn, _ = await running(world)
    await world.say(turn.session_id, "The second.", on_busy="interrupt")
    replacing = await world.say(turn.session_id, "The third.", on_busy="replace")
    assert await texts(world, replacing.turn_id) == ["The first.", "The third."]


async def test_replace_beside_a_completion_at_the_same_moment_replaces_nothing(world: World) -> None:
    turn, attempt = await running(world)
    async with completing_at_the_same_moment(world, attempt):
        saying = asyncio.create_task(world.say(turn.session_id, on_busy="replace"))
    await saying
    assert await statuses(world, turn.session_id) == ["completed", "pending"]


async def test_merged_messages_become_one_turn_that_waits_for_its_window(world: World) -> None:
    session_id = (await world.session(on_busy="merge", merge_window_seconds=3600)).session_id
    first = await world.say(session_id, "One.", metadata={"a": 1})
    assert (first.claimable, first.hold_seconds) == (False, 3600)
    assert await world.try_claim(first.turn_id) is None
    second = await world.say(session_id, "Two.", external_id="mine", metadata={"b": 2})
    assert (second.turn_id, second.position, second.revision) == (first.turn_id, 1, first.revision + 1)
    row = await world.row("turns", first.turn_id)
    assert [message["text"] for message in row.user_messages] == ["One.", "Two."]
    assert (row.external_id, row.metadata) == ("mine", {"a": 1, "b": 2})
    assert [event.type for event in second.events] == ["turn.merged"]


async def test_behind_a_running_turn_messages_merge_with_each_other_and_not_with_it(world: World) -> None:
    turn, _ = await running(world)
    second, third = [await world.say(turn.session_id, word, on_busy="merge") for word in ("Two.", "Three.")]
    assert second.turn_id == third.turn_id != turn.turn_id
    assert await texts(world, second.turn_id) == ["Two.", "Three."]


async def test_merge_beside_a_claim_at_the_same_moment_begins_another_turn(world: World) -> None:
    session_id = (await world.session(on_busy="merge", merge_window_seconds=0)).session_id
    first = await world.say(session_id, "One.")
    async with world.database.transaction() as connection:
        await connection.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": session_id})
        claiming = asyncio.create_task(world.claim(first.turn_id))
        await waiting_for_locks(world, 1)
        saying = asyncio.create_task(world.say(session_id, "Two."))
        await waiting_for_locks(world, 2)
    claimed, second = await claiming, await saying
    assert [message["text"] for message in claimed.user_messages] == ["One."]
    assert second.turn_id != first.turn_id


async def test_a_turn_that_was_begun_is_not_merged_into_even_while_it_waits_to_be_tried_again(world: World) -> None:
    turn, attempt = await running(world)
    await world.retry(attempt, delay_seconds=3600)
    assert (await world.say(turn.session_id, on_busy="merge")).turn_id != turn.turn_id


async def test_a_turn_holds_no_more_messages_than_a_request_may(world: World) -> None:
    session_id = (await world.session(on_busy="merge")).session_id
    turns = [await world.say(session_id) for _ in range(MAX_MERGED_MESSAGES + 1)]
    assert [turn.position for turn in turns] == [1] * MAX_MERGED_MESSAGES + [2]


@pytest.mark.parametrize("on_busy", ["reject", "interrupt", "replace", "merge"])
@pytest.mark.parametrize("begun", [False, True])
async def test_no_policy_touches_an_opening_turn(world: World, on_busy: Any, begun: bool) -> None:  # noqa: FBT001
    session = await world.session(opening=True)
    assert session.opening_turn is not None
    if begun:
        await world.claim(session.opening_turn.turn_id)
    following = await world.say(session.session_id, "Hello?", on_busy=on_busy)
    assert (following.position, following.claimable) == (2, False)
    assert await texts(world, following.turn_id) == ["Hello?"]
    assert await statuses(world, session.session_id) == ["running" if begun else "pending", "pending"]


@pytest.mark.parametrize("on_busy", ["reject", "interrupt", "replace", "merge"])
async def test_an_ended_session_and_an_old_revision_are_refused_by_every_policy(world: World, on_busy: Any) -> None:
    turn, _ = await running(world)
    with pytest.raises(RevisionConflict):
        await world.say(turn.session_id, on_busy=on_busy, expected_revision=0)
    assert await statuses(world, turn.session_id) == ["running"]
    await world.end(turn.session_id)
    with pytest.raises(SessionEnded):
        await world.say(turn.session_id, on_busy=on_busy)
