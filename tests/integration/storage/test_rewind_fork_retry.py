"""Taking a conversation up from an earlier turn, in the same session or a new one, and trying a failed turn once more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from worker.conversation.checkpoint import normalize_checkpoint
from worker.storage.branch import base_checkpoint, load_branch
from worker.storage.cancel import TurnNotFound
from worker.storage.journal import read_journals
from worker.storage.retry import HeadMoved, TurnNotRetryable
from worker.storage.rewind import TurnNotCompleted
from worker.storage.session_lock import RevisionConflict, SessionBusy, SessionEnded, lock_session

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World


def say(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": text}]}


async def contents(world: World, turn_id: UUID) -> list[str]:
    async with world.database.statement() as connection:
        branch = await load_branch(connection, organization_id=world.organization_id, turn_id=turn_id)
    return [str(message["content"]) for message in base_checkpoint(branch, None).messages]


async def failed(world: World, session_id: UUID, text: str = "Hi.") -> UUID:
    turn = await world.enqueue(session_id, text)
    await world.fail((await world.claim(turn.turn_id)).attempt)
    return turn.turn_id


async def test_after_a_rewind_the_next_turn_grows_a_branch_and_the_old_one_stays_readable(world: World) -> None:
    session_id = (await world.session()).session_id
    first = await world.turn(session_id, **say("one"))
    second = await world.turn(session_id, **say("two"))
    before = await world.row("sessions", session_id)
    rewound = await world.rewind(session_id, first)
    assert rewound.revision == before.revision + 1
    assert [(event.type, event.payload) for event in rewound.events] == [
        ("session.rewound", {"from_turn_id": str(second), "to_turn_id": str(first)})
    ]
    third = await world.turn(session_id, **say("three"))
    assert await contents(world, third) == ["one", "three"]
    assert await contents(world, second) == ["one", "two"]
    await world.rewind(session_id, second)
    assert (await world.row("sessions", session_id)).head_turn_id == second


async def test_a_rewind_to_the_beginning_leaves_nothing_before_the_next_turn(world: World) -> None:
    session_id = (await world.session()).session_id
    await world.turn(session_id, **say("one"))
    await world.rewind(session_id, None)
    following = await world.enqueue(session_id)
    assert (await world.claim(following.turn_id)).parent_turn_id is None


async def test_a_rewind_to_where_the_head_is_changes_nothing(world: World) -> None:
    session_id = (await world.session()).session_id
    head = await world.turn(session_id)
    revision = (await world.row("sessions", session_id)).revision
    rewound = await world.rewind(session_id, head, expected_revision=revision)
    assert (rewound.revision, rewound.events) == (revision, ())


async def test_a_rewind_is_refused_while_a_turn_is_pending_or_running_and_when_the_session_is_over(
    world: World,
) -> None:
    session_id = (await world.session()).session_id
    first = await world.turn(session_id)
    turn = await world.enqueue(session_id)
    with pytest.raises(SessionBusy, match="is pending"):
        await world.rewind(session_id, first)
    attempt = (await world.claim(turn.turn_id)).attempt
    with pytest.raises(SessionBusy, match="is running"):
        await world.rewind(session_id, None)
    with pytest.raises(RevisionConflict):
        await world.rewind(session_id, None, expected_revision=0)
    await world.complete(attempt)
    await world.end(session_id)
    with pytest.raises(SessionEnded):
        await world.rewind(session_id, first)


async def test_only_an_answered_turn_of_the_session_itself_can_be_gone_on_from(world: World) -> None:
    session_id, elsewhere = [(await world.session()).session_id for _ in range(2)]
    unanswered, foreign = await failed(world, session_id), await world.turn(elsewhere)
    for go_on in (world.rewind, world.fork):
        with pytest.raises(TurnNotCompleted, match="is failed"):
            await go_on(session_id, unanswered)
        with pytest.raises(TurnNotFound):
            await go_on(session_id, foreign)


async def test_a_rewind_and_a_message_at_once_are_one_after_the_other(world: World) -> None:
    for _ in range(5):
        session_id = (await world.session()).session_id
        head = await world.turn(session_id)
        rewinding, enqueued = await asyncio.gather(
            world.rewind(session_id, None), world.enqueue(session_id), return_exceptions=True
        )
        assert not isinstance(enqueued, BaseException)
        expected = head if isinstance(rewinding, SessionBusy) else None
        assert (await world.claim(enqueued.turn_id)).parent_turn_id == expected


async def test_a_fork_has_the_whole_conversation_in_itself_and_outlives_its_source(world: World) -> None:
    source = (await world.session(initial_context={"name": "Ada"}, merge_window_seconds=7)).session_id
    learned = {"version": 1, "current_node_id": "start", "gathered_context": {"wish": "tea"}}
    first = await world.turn(source, checkpoint=learned, **say("one"))
    await world.turn(source, **say("two"))
    await world.end(source)
    forked = await world.fork(source, first, external_id="mine")
    row, original = await world.row("sessions", forked), await world.row("sessions", source)
    assert (row.state, row.external_id, row.merge_window_seconds) == ("running", "mine", 7)
    assert (row.definition_id, row.initial_context) == (original.definition_id, {"name": "Ada"})
    assert (row.forked_from_session_id, row.forked_from_turn_id, row.head_turn_id) == (source, first, None)
    checkpoint = normalize_checkpoint(row.checkpoint)
    assert [message["content"] for message in checkpoint.messages] == ["one"]
    assert (checkpoint.current_node_id, checkpoint.gathered_context) == ("start", {"wish": "tea"})
    for table in ("outbox", "messages"):
        await world.execute(f"DELETE FROM {table} WHERE organization_id = :id", id=world.organization_id)
    await world.execute("UPDATE sessions SET head_turn_id = NULL")
    await world.execute("UPDATE turns SET parent_turn_id = NULL")
    await world.execute("DELETE FROM turns")
    await world.execute("DELETE FROM sessions WHERE id = :id", id=source)
    following = await world.enqueue(forked)
    claimed = await world.claim(following.turn_id)
    assert (claimed.parent_turn_id, claimed.session_checkpoint) == (None, row.checkpoint)


async def test_locking_a_fork_does_not_read_the_conversation_it_began_with(world: World) -> None:
    source = (await world.session()).session_id
    await world.turn(source, **say("one"))
    fork = await world.fork(source)
    async with world.database.transaction() as connection:
        locked = await lock_session(connection, organization_id=world.organization_id, session_id=fork)
    assert locked.forked_from_session_id == source
    assert not {"checkpoint", "initial_context", "metadata"} & set(locked._fields)


async def test_a_fork_of_a_fork_goes_on_from_both(world: World) -> None:
    source = (await world.session()).session_id
    await world.turn(source, **say("one"))
    fork = await world.fork(source)
    await world.turn(fork, **say("two"))
    again = await world.fork(fork)
    checkpoint = normalize_checkpoint((await world.row("sessions", again)).checkpoint)
    assert [message["content"] for message in checkpoint.messages] == ["one", "two"]
    beginning = normalize_checkpoint((await world.row("sessions", await world.fork(fork, None))).checkpoint)
    assert [message["content"] for message in beginning.messages] == ["one"]


async def test_a_retry_is_a_new_turn_with_the_same_message_that_goes_on_with_the_old_one_s_work(world: World) -> None:
    session_id = (await world.session()).session_id
    old = await failed(world, session_id, "Book it.")
    retry = await world.retry_ended(old)
    row = await world.row("turns", retry.turn_id)
    assert (row.user_messages, row.retry_of_turn_id) == ([{"text": "Book it."}], old)
    claimed = await world.claim(retry.turn_id)
    assert (claimed.retry_root_turn_id, claimed.carries_over_turn_id) == (old, old)
    await world.fail(claimed.attempt)
    again = await world.claim((await world.retry_ended(retry.turn_id)).turn_id)
    assert (again.retry_root_turn_id, again.carries_over_turn_id) == (old, retry.turn_id)


async def test_a_retry_is_refused_when_the_conversation_has_gone_on(world: World) -> None:
    session_id = (await world.session()).session_id
    old = await failed(world, session_id)
    await world.turn(session_id)
    with pytest.raises(HeadMoved, match="Rewind to the beginning first"):
        await world.retry_ended(old)
    await world.rewind(session_id, None)
    assert (await world.retry_ended(old)).claimable


async def test_a_retry_behind_a_turn_that_moves_the_head_carries_nothing_over(world: World) -> None:
    session_id = (await world.session()).session_id
    old = await failed(world, session_id)
    between = await world.enqueue(session_id)
    retry = await world.retry_ended(old)
    await world.complete((await world.claim(between.turn_id)).attempt)
    assert (await world.claim(retry.turn_id)).parent_turn_id == between.turn_id
    async with world.database.statement() as connection:
        journals = await read_journals(connection, organization_id=world.organization_id, turn_id=retry.turn_id)
    assert len(journals) == 1


async def test_only_a_turn_that_ended_unanswered_is_retried_and_once_at_a_time(world: World) -> None:
    session_id = (await world.session()).session_id
    completed = await world.turn(session_id)
    with pytest.raises(TurnNotRetryable, match="it is completed"):
        await world.retry_ended(completed)
    old = await failed(world, session_id)
    outcomes = await asyncio.gather(*(world.retry_ended(old) for _ in range(3)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EnqueuedTurn", *["TurnNotRetryable"] * 2]


async def test_what_a_further_message_took_over_is_not_retried_but_a_cancelled_turn_is(world: World) -> None:
    session_id = (await world.session()).session_id
    turn = await world.enqueue(session_id)
    interrupting = await world.say(session_id, on_busy="interrupt")
    with pytest.raises(TurnNotRetryable, match="took over"):
        await world.retry_ended(turn.turn_id)
    await world.cancel(interrupting.turn_id)
    retry = await world.retry_ended(interrupting.turn_id)
    row = await world.row("turns", retry.turn_id)
    assert [message["text"] for message in row.user_messages] == ["Hi.", "And another thing."]


async def test_a_failed_opening_is_retried_as_an_opening(world: World) -> None:
    session = await world.session(opening=True)
    assert session.opening_turn is not None
    await world.fail((await world.claim(session.opening_turn.turn_id)).attempt)
    retry = await world.retry_ended(session.opening_turn.turn_id)
    assert (await world.claim(retry.turn_id)).opening
    await world.end(session.session_id)
    with pytest.raises(SessionEnded):
        await world.retry_ended(retry.turn_id)


async def test_an_end_that_waits_lets_the_running_turn_finish_and_takes_no_more_meanwhile(world: World) -> None:
    session_id = (await world.session()).session_id
    turn, behind = await world.enqueue(session_id), await world.enqueue(session_id)
    attempt = (await world.claim(turn.turn_id)).attempt
    ending = await world.end(session_id, "hung_up", disposition="sold", wait=True)
    assert (ending.ended, ending.cancelled) == (False, (behind.turn_id,))
    assert [event.type for event in ending.events] == ["turn.cancelled", "session.ending"]
    with pytest.raises(SessionEnded):
        await world.enqueue(session_id)
    assert (await world.end(session_id, wait=True)).events == ()
    assert await world.finish_endings() == []
    await world.complete(attempt)
    assert [event.type for event in await world.finish_endings()] == ["session.ended"]
    row = await world.row("sessions", session_id)
    assert (row.state, row.end_reason, row.disposition) == ("completed", "hung_up", "sold")
    assert row.head_turn_id == turn.turn_id


async def test_an_end_without_waiting_ends_what_another_end_waits_for(world: World) -> None:
    session_id = (await world.session()).session_id
    turn = await world.enqueue(session_id)
    await world.claim(turn.turn_id)
    await world.end(session_id, wait=True)
    ended = await world.end(session_id, "now")
    assert (ended.ended, ended.cancelled) == (True, (turn.turn_id,))
    assert (await world.row("sessions", session_id)).end_reason == "now"


async def test_a_turn_that_ends_its_session_itself_says_why_even_if_an_end_waits_for_it(world: World) -> None:
    session_id = (await world.session()).session_id
    attempt = (await world.claim((await world.enqueue(session_id)).turn_id)).attempt
    await world.end(session_id, "hung_up", wait=True)
    await world.complete(attempt, end_reason="user_qualified")
    assert (await world.row("sessions", session_id)).end_reason == "user_qualified"
    assert await world.finish_endings() == []
