"""PostgreSQL and Redis go away under load: what was accepted is answered, once, by the processes that were there before."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system import Caller, System
    from worker.embedded.server import EmbeddedServer

SESSIONS = 50
TURNS = 2
LLM_SECONDS = 0.5


def restart(server: EmbeddedServer) -> None:
    server.restart()


def crash(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.restart()


@pytest.fixture(autouse=True)
def unharmed(system: System) -> Iterator[None]:
    """No process ends because a server did."""
    before = [process.pid for process in system.processes]
    yield
    assert [process.pid for process in system.processes if process.is_running] == before


async def hold_conversations(caller: Caller) -> None:
    """Several sessions at once, in each of which the next message is sent before the last is answered."""

    async def converse() -> None:
        session = await caller.session()
        turns = [await caller.client.enqueue(session, f"Message {number}") for number in range(TURNS)]
        for number, turn in enumerate(turns):
            answered = await caller.client.wait(turn.id, timeout_seconds=60)
            assert (answered.status, answered.assistant_text) == ("completed", f"You said: Message {number}")
            assert answered.position == number + 1

    async with asyncio.TaskGroup() as conversations:
        for _ in range(SESSIONS):
            conversations.create_task(converse())


async def under_load(caller: Caller, system: System, disturb: Callable[[], None]) -> None:
    """Disturb the system when a fifth of its turns have reached the LLM, and see every conversation through."""
    system.play({"delay_seconds": LLM_SECONDS, "reply": "You said: {user}"})
    conversations = asyncio.create_task(hold_conversations(caller))
    reached = asyncio.create_task(system.llm.wait_for_request(count=SESSIONS * TURNS // 5, timeout_seconds=60))
    await asyncio.wait([conversations, reached], return_when=asyncio.FIRST_COMPLETED)
    assert reached.done()
    assert not conversations.done()
    await asyncio.to_thread(disturb)
    await conversations
    await caller.expect_each_completed_once()
    assert len(await caller.turns()) == SESSIONS * TURNS, "a request that was repeated made no second turn"


@pytest.mark.parametrize("lose", [restart, crash])
async def test_redis_lost_under_load_costs_no_turn_and_no_process(
    caller: Caller, system: System, lose: Callable[[EmbeddedServer], None]
) -> None:
    await under_load(caller, system, lambda: lose(system.redis))


async def test_redis_flushed_under_load_costs_no_turn(caller: Caller, system: System) -> None:
    with system.broker() as broker:
        await under_load(caller, system, broker.flushall)


async def test_every_connection_to_redis_cut_under_load_runs_no_turn_twice(caller: Caller, system: System) -> None:
    def cut() -> None:
        with system.broker() as broker:
            for kind in ("normal", "pubsub"):
                broker.client_kill_filter(_type=kind, skipme=True)

    await under_load(caller, system, cut)


@pytest.mark.parametrize("lose", [restart, crash])
async def test_postgresql_lost_under_load_costs_no_accepted_turn_and_no_process(
    caller: Caller, system: System, lose: Callable[[EmbeddedServer], None]
) -> None:
    await under_load(caller, system, lambda: lose(system.postgres))
