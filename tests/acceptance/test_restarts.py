"""Processes come and go; conversations go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from api_stub.client import Conflict

if TYPE_CHECKING:
    from tests.system import Caller, System


async def test_a_restart_of_the_api_interrupts_neither_a_turn_nor_who_waits_for_it_nor_who_follows_it(
    caller: Caller, system: System
) -> None:
    system.play({"hold": "answer", "reply": "Here you are."})
    turn = await caller.running(await caller.session(), "Hello.")
    async with (
        caller.client.subscribe(turn_id=turn.id) as over_http,
        caller.client.subscribe(turn_id=turn.id, redis_url=system.redis.url) as over_redis,
    ):
        assert (await anext(over_http)).type == (await anext(over_redis)).type == "turn.enqueued"
        waiting = asyncio.create_task(caller.client.wait(turn.id, timeout_seconds=60))
        system.api.terminate()
        assert await system.api.exit_status() == 0
        await asyncio.to_thread(system.start_api().wait_until_ready)
        system.llm.release("answer")
        assert (await waiting).assistant_text == "Here you are."
        rest = ["turn.started", "turn.node_transition", "turn.completed"]
        assert [event.type async for event in over_http] == rest
        assert [event.type async for event in over_redis] == rest


async def test_a_worker_that_is_asked_to_stop_finishes_what_it_runs_takes_nothing_new_and_exits_with_0(
    caller: Caller, system: System
) -> None:
    system.play({"when": {"user_contains": "Old"}, "hold": "old", "reply": "Finished."})
    old = await caller.running(await caller.session(), "Old.")
    stopping = await caller.holder(old.id)
    stopping.terminate()
    await stopping.line("worker.stopping", running=1)
    new = await caller.ask(await caller.session(), "New.")
    assert new.status == "completed"
    assert await caller.holder(new.id) is not stopping
    system.llm.release("old")
    finished = await caller.client.wait(old.id)
    assert (finished.assistant_text, finished.attempt) == ("Finished.", 1)
    assert await stopping.exit_status() == 0


async def test_a_turn_that_outlasts_the_grace_of_its_stopping_worker_is_given_back_and_completed_by_another(
    caller: Caller, system: System
) -> None:
    system.play({"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "Said by another."})
    turn = await caller.running(await caller.session(), "Hello.")
    stopping = await caller.holder(turn.id)
    stopping.terminate()
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text, answered.attempt) == ("completed", "Said by another.", 2)
    assert await caller.holder(turn.id) is not stopping
    assert await stopping.exit_status() == 0
    assert stopping.log.lines("turn.handed_back", turn_id=str(turn.id))
    row = await caller.world.row("turns", turn.id)
    assert (row.worker_losses, row.provider_failures) == (0, 0), "a deploy counts against no budget"


async def test_a_session_that_is_ended_cancels_its_running_turn_and_stops_it_in_its_worker(
    caller: Caller, system: System
) -> None:
    system.play({"hold": "never", "reply": "Never said."})
    session = await caller.session()
    running = await caller.running(session, "Hello.")
    pending = await caller.client.enqueue(session, "Are you there?")
    ended = await caller.client.end_session(session, reason="hung_up")
    assert (ended.state, ended.end_reason) == ("completed", "hung_up")
    for turn in (running, pending):
        cancelled = await caller.client.wait(turn.id)
        assert cancelled.error is not None
        assert (cancelled.status, cancelled.error.code) == ("cancelled", "session_ended")
    holder = await caller.holder(running.id)
    await holder.line("turn.cancelled", turn_id=str(running.id))
    (request,) = system.llm.requests
    await system.llm.wait_for_request(lambda asked: asked is request and asked.client_gone)
    with pytest.raises(Conflict) as refused:
        await caller.client.enqueue(session, "Hello?")
    assert refused.value.code == "session_ended"
