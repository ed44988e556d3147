"""A cancelled turn stops where it runs: by the news, or without them by a look into PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from worker.channel.envelope import CANCELLATIONS
from worker.channel.subscriber import Subscriber
from worker.embedded.scripted_llm import Script
from worker.turns.cancellations import stop_cancelled_turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM

    MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]

HOUR = 3600.0


async def in_the_middle_of_its_reply(world: World, worker: Worker, llm: ScriptedLLM) -> tuple[Any, asyncio.Task[str]]:
    rule = {"reply": "A long story. " * 20, "hold": "rest", "hold_after": 3}
    llm.set_script(Script.model_validate({"rules": [rule]}))
    turn = await world.enqueue((await world.session()).session_id, "Tell me a story.")
    running = worker.start(turn.turn_id)
    await llm.wait_for_request(lambda _: True)
    return turn, running


async def test_news_of_its_cancellation_stops_a_turn_in_the_middle_of_an_llm_stream(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, redis_url: str
) -> None:
    # Nothing but the news can tell this worker: it does not look into PostgreSQL for an hour.
    async with make_worker(
        lease_seconds=2 * HOUR, lease_renewal_seconds=HOUR, cancellation_check_seconds=HOUR
    ) as worker:
        subscriber = Subscriber(redis_url, patterns=[CANCELLATIONS])
        following = asyncio.create_task(stop_cancelled_turns(subscriber, worker.executor))
        await subscriber.start()
        turn, running = await in_the_middle_of_its_reply(world, worker, llm)
        worker.dispatch.after_commit(await world.cancel(turn.turn_id))
        assert await asyncio.wait_for(running, 10) == "cancelled"
        assert worker.executor.running == 0
        await subscriber.close()
        await following


async def test_without_any_news_a_look_into_postgresql_stops_it_within_about_a_second(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM
) -> None:
    async with make_worker(lease_seconds=2 * HOUR, lease_renewal_seconds=HOUR) as worker:
        turn, running = await in_the_middle_of_its_reply(world, worker, llm)
        await world.cancel(turn.turn_id)
        cancelled_at = time.monotonic()
        assert await asyncio.wait_for(running, 10) == "cancelled"
        assert time.monotonic() - cancelled_at < 3, "a busy machine is slow, but not that slow"


async def test_what_a_cancelled_turn_used_until_then_stays_in_the_books(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    turn, running = await in_the_middle_of_its_reply(world, worker, llm)
    await world.cancel(turn.turn_id)
    await asyncio.wait_for(running, 10)
    await worker.executor.drain()
    (used,) = await world.rows("SELECT * FROM usage_entries WHERE turn_id = :id", id=turn.turn_id)
    assert (used.attempt, used.prompt_tokens > 0) == (1, True)
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.assistant_text, row.checkpoint) == ("cancelled", None, None)


async def test_stopping_a_turn_that_does_not_run_here_does_nothing(world: World, worker: Worker) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    worker.executor.stop(turn.turn_id)
    assert await worker.execute(turn.turn_id) == "completed"
