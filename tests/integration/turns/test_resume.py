"""A turn that goes on in another attempt from where its journal ends, on a real database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from worker.embedded.scripted_llm import Script
from worker.storage.workflows import create_workflow
from worker.turns.fault_points import AFTER_JOURNAL_COMMIT, BEFORE_JOURNAL_COMMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM

    MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]

TWO_NODES: dict[str, Any] = {
    "graph": {
        "nodes": [
            {"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Begin."}},
            {"id": "next", "type": "agentNode", "data": {"name": "Next", "prompt": "Go on."}},
        ],
        "edges": [
            {
                "id": "on",
                "source": "start",
                "target": "next",
                "data": {"label": "On", "condition": "Always.", "transition_speech": "Moving on."},
            }
        ],
    },
    "workflow_configurations": {},
}
MOVE = {"times": 1, "reply": [{"text": "Well."}, {"tool": "on"}]}
BUSY = {"times": 1, "error": {"status": 529, "type": "overloaded_error", "message": "Busy."}}


def play(llm: ScriptedLLM, *rules: dict[str, Any]) -> None:
    llm.set_script(Script.model_validate({"rules": list(rules)}))


@pytest.fixture
async def turn(world: World) -> Any:
    async with world.database.transaction() as connection:
        world.workflow_id = await create_workflow(
            connection, organization_id=world.organization_id, name="Two", definition=TWO_NODES
        )
    return await world.enqueue((await world.session()).session_id)


async def expect_moved_once(world: World, llm: ScriptedLLM, turn: Any, *, attempts: int) -> None:
    """The turn is completed, its first reply was asked for once, and it moved once."""
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.assistant_text) == ("completed", "Well.\n\nMoving on.\n\nHere.")
    assert (row.attempt, row.checkpoint["current_node_id"]) == (attempts, "next")
    events = await world.rows("SELECT type FROM outbox WHERE type LIKE 'turn.%' ORDER BY sequence")
    types = [event.type for event in events]
    assert types.count("turn.node_transition") == 2
    assert types.count("turn.tool_call_started") == types.count("turn.tool_call_result") == 1
    firsts = [request for request in llm.requests if request.body["messages"][-1]["role"] == "user"]
    assert len([request for request in firsts if "on" in request.tools]) == 1


async def take_over(world: World, worker: Worker, turn: Any) -> None:
    """Let the turn's lease expire and another worker finish it."""
    ending = "not claimable"
    while ending == "not claimable":  # the lost one renewed just before, or the database is up for less than a lease
        await world.expire_lease(turn.turn_id)
        ending = await worker.execute(turn.turn_id)
    assert ending == "completed"


async def test_a_turn_that_is_tried_again_goes_on_behind_its_finished_steps(
    world: World, worker: Worker, llm: ScriptedLLM, turn: Any
) -> None:
    play(llm, MOVE, BUSY, {"reply": "Here."})
    assert await worker.execute(turn.turn_id) == "retrying"
    await worker.doorbell.wait_for(worker.reference(turn.turn_id))
    assert await worker.execute(turn.turn_id) == "completed"
    await expect_moved_once(world, llm, turn, attempts=2)


async def test_a_turn_that_is_handed_back_goes_on_behind_its_finished_steps(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, turn: Any
) -> None:
    play(llm, MOVE, {"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "Here."})
    async with make_worker() as stopping, make_worker() as worker:
        running = stopping.start(turn.turn_id)
        await llm.wait_for_request(count=2)
        stopping.executor.give_back()
        assert await running == "given back"
        assert await worker.execute(turn.turn_id) == "completed"
    await expect_moved_once(world, llm, turn, attempts=2)


async def test_a_turn_whose_worker_is_lost_goes_on_behind_its_finished_steps_and_the_lost_one_writes_nothing(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, turn: Any
) -> None:
    play(llm, MOVE, {"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "Here."})
    async with make_worker(lease_renewal_seconds=4.0) as lost, make_worker(lease_seconds=0.5) as worker:
        running = lost.start(turn.turn_id)
        await llm.wait_for_request(count=2)
        while len(await world.rows("SELECT FROM journal_steps")) < 2:
            pass
        await take_over(world, worker, turn)
        llm.release("never")
        assert await running == "lease lost"
    await expect_moved_once(world, llm, turn, attempts=2)


@pytest.mark.parametrize("moment", [BEFORE_JOURNAL_COMMIT, AFTER_JOURNAL_COMMIT])
@pytest.mark.parametrize("nth", [1, 2])
async def test_wherever_a_worker_stands_still_about_its_journal_another_one_finishes_the_turn(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, turn: Any, *, moment: str, nth: int
) -> None:
    stuck, go_on, seen = asyncio.Event(), asyncio.Event(), 0

    async def stand_still(name: str) -> None:
        nonlocal seen
        seen += name == moment
        if seen == nth and name == moment:
            stuck.set()
            await go_on.wait()

    play(
        llm,
        {"when": {"tool_offered": "on"}, "reply": MOVE["reply"]},
        {"times": 1, "hold": "never", "reply": "Never said."},
        {"reply": "Here."},
    )
    async with (
        make_worker(fault_point=stand_still, lease_renewal_seconds=4.0) as lost,
        make_worker(lease_seconds=0.5) as worker,
    ):
        running = lost.start(turn.turn_id)
        await llm.wait_for_request(count=2)
        await asyncio.wait_for(stuck.wait(), 10)
        await take_over(world, worker, turn)
        row = await world.row("turns", turn.turn_id)
        go_on.set()
        assert await asyncio.wait_for(running, 10) == "lease lost"
    assert row.assistant_text == "Well.\n\nMoving on.\n\nHere."
    assert await world.row("turns", turn.turn_id) == row


async def test_a_plain_turn_writes_no_step(world: World, worker: Worker, llm: ScriptedLLM) -> None:
    plain = await world.enqueue((await world.session()).session_id)
    assert await worker.execute(plain.turn_id) == "completed"
    assert await world.rows("SELECT FROM journal_steps") == []
