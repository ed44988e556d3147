"""Redis carries messages and news; when it is away, both come later and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system import Caller, System


async def test_while_the_broker_is_stopped_a_caller_gets_202_at_once_and_the_turn_runs_when_it_is_back(
    caller: Caller, system: System
) -> None:
    session = await caller.session()
    await asyncio.to_thread(system.redis.stop)
    asked_at = time.monotonic()
    turn = await caller.client.enqueue(session, "Anybody there?")
    assert time.monotonic() - asked_at < 2
    assert turn.status == "pending"
    await system.api.line("ring.failed", turn_ids=[str(turn.id)])
    await asyncio.to_thread(system.redis.start)
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text, answered.attempt) == ("completed", "You said: Anybody there?", 1)


async def test_while_the_broker_does_not_answer_a_caller_gets_202_at_once_and_the_turn_runs_when_it_does(
    caller: Caller, system: System
) -> None:
    session = await caller.session()
    os.kill(system.redis.pid, signal.SIGSTOP)
    asked_at = time.monotonic()
    turn = await caller.client.enqueue(session, "Anybody there?")
    assert time.monotonic() - asked_at < 2
    os.kill(system.redis.pid, signal.SIGCONT)
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.attempt) == ("completed", 1)


async def test_a_turn_that_ends_while_redis_is_away_is_committed_and_its_subscriber_hears_of_it_afterwards(
    caller: Caller, system: System
) -> None:
    system.play({"hold": "answer", "reply": "Said into the silence."})
    turn = await caller.running(await caller.session(), "Hello.")
    async with caller.client.subscribe(turn_id=turn.id, redis_url=system.redis.url) as events:
        assert [(await anext(events)).type for _ in range(2)] == ["turn.enqueued", "turn.started"]
        await asyncio.to_thread(system.redis.stop)
        system.llm.release("answer")
        answered = await caller.client.wait(turn.id, timeout_seconds=30)
        assert answered.assistant_text == "Said into the silence."
        await asyncio.to_thread(system.redis.start)
        async with asyncio.timeout(30):
            assert [event.type async for event in events] == ["turn.node_transition", "turn.completed"]
