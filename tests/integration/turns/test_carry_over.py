"""A turn in the place of another, which it retries or interrupts: it goes on with what that one had finished."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.turns.test_resume import TWO_NODES, play

if TYPE_CHECKING:
    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM

MOVE = {"times": 1, "when": {"tool_offered": "on"}, "reply": [{"text": "Well."}, {"tool": "on"}]}
NO = {"times": 1, "error": {"status": 400, "type": "invalid_request_error", "message": "No."}}
ANSWERED = "SELECT FROM journal_steps WHERE turn_id = :id AND step ->> 'type' = 'answered'"


@pytest.fixture
async def session(world: World) -> Any:
    await world.draw(TWO_NODES["graph"])
    return (await world.session()).session_id


async def messages_of(world: World, turn_id: Any) -> list[Any]:
    rows = await world.rows("SELECT message FROM messages WHERE turn_id = :id ORDER BY ordinal", id=turn_id)
    return [row.message for row in rows]


async def failed(world: World, worker: Worker, llm: ScriptedLLM, session: Any) -> Any:
    """A turn that moved to the next node and then failed for good."""
    play(llm, MOVE, NO, {"reply": "Here."})
    turn = await world.enqueue(session, "Go on.")
    assert await worker.execute(turn.turn_id) == "failed"
    return turn.turn_id


async def test_a_retried_turn_goes_on_behind_the_steps_of_the_failed_one(
    world: World, worker: Worker, llm: ScriptedLLM, session: Any
) -> None:
    old = await failed(world, worker, llm, session)
    retry = (await world.retry_ended(old)).turn_id
    assert await worker.execute(retry) == "completed"
    row = await world.row("turns", retry)
    assert row.assistant_text == "Well.\n\nMoving on.\n\nHere."
    assert row.checkpoint["current_node_id"] == "next"
    assert len(llm.requests) == 3
    assert [message["role"] for message in await messages_of(world, retry)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    events = await world.rows("SELECT type FROM outbox WHERE turn_id = :id ORDER BY sequence", id=retry)
    assert [event.type for event in events].count("turn.tool_call_result") == 1


async def test_a_retry_that_is_tried_again_itself_goes_on_behind_both_journals(
    world: World, worker: Worker, llm: ScriptedLLM, session: Any
) -> None:
    old = await failed(world, worker, llm, session)
    play(
        llm, {"times": 1, "error": {"status": 529, "type": "overloaded_error", "message": "Busy."}}, {"reply": "Here."}
    )
    retry = (await world.retry_ended(old)).turn_id
    assert await worker.execute(retry) == "retrying"
    await worker.doorbell.wait_for(worker.reference(retry))
    assert await worker.execute(retry) == "completed"
    assert (await world.row("turns", retry)).assistant_text == "Well.\n\nMoving on.\n\nHere."


async def test_a_retry_whose_head_has_moved_begins_anew(
    world: World, worker: Worker, llm: ScriptedLLM, session: Any
) -> None:
    old = await failed(world, worker, llm, session)
    retry = (await world.retry_ended(old)).turn_id
    await world.execute("UPDATE turns SET position = 3 WHERE id = :id", id=retry)
    await world.execute("UPDATE sessions SET last_position = 3")
    play(llm, {"when": {"user_contains": "between"}, "reply": "In between."}, {"reply": "Anew."})
    between = (await world.enqueue(session, "In between?")).turn_id
    await world.execute("UPDATE turns SET position = 2 WHERE id = :id", id=between)
    assert await worker.execute(between) == "completed"
    assert await worker.execute(retry) == "completed"
    assert (await world.row("turns", retry)).assistant_text == "Anew."


async def test_an_interrupting_turn_takes_over_messages_and_finished_calls_and_answers_them_together(
    world: World, worker: Worker, llm: ScriptedLLM, session: Any
) -> None:
    play(llm, MOVE, {"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "Stopped there."})
    interrupted = (await world.enqueue(session, "Go on.")).turn_id
    running = worker.start(interrupted)
    await llm.wait_for_request(count=2)
    while not await world.rows(ANSWERED, id=interrupted):
        pass
    turn = (await world.say(session, "Stop!", on_busy="interrupt")).turn_id
    assert await running == "cancelled"
    assert await worker.execute(turn) == "completed"
    row = await world.row("turns", turn)
    assert (row.assistant_text, row.checkpoint["current_node_id"]) == ("Stopped there.", "next")
    said = [(message["role"], message.get("content")) for message in await messages_of(world, turn)]
    assert said == [
        ("user", "Go on."),
        ("assistant", "Well."),
        ("tool", json.dumps({"status": "done"})),
        ("user", "Stop!"),
        ("assistant", "Stopped there."),
    ]
    events = await world.rows("SELECT type FROM outbox WHERE turn_id = :id", id=turn)
    assert "turn.tool_call_result" in {event.type for event in events}


async def test_a_turn_that_interrupts_one_that_interrupted_takes_over_what_both_had_finished(
    world: World, worker: Worker, llm: ScriptedLLM, session: Any
) -> None:
    play(
        llm,
        MOVE,
        {"times": 1, "hold": "never", "reply": "Never said."},
        {"times": 1, "hold": "never", "reply": "Never said either."},
        {"reply": "All right."},
    )
    turn = (await world.enqueue(session, "One.")).turn_id
    for count, text in ((2, "Two."), (3, "Three.")):
        running = worker.start(turn)
        await llm.wait_for_request(count=count)
        while count == 2 and not await world.rows(ANSWERED, id=turn):
            pass
        turn = (await world.say(session, text, on_busy="interrupt")).turn_id
        assert await running == "cancelled"
    assert await worker.execute(turn) == "completed"
    said = [message.get("content") for message in await messages_of(world, turn) if message["role"] != "tool"]
    assert said == ["One.", "Well.", "Two.", "Three.", "All right."]
