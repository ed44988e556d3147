"""Servers that go away and come back while turns run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system import Caller, System

SESSIONS = 20
TURNS = 4


async def converse(caller: Caller, session_id: UUID) -> list[UUID]:
    """Say a few things one after the other; the client repeats what is not answered, under the same key."""
    turns = []
    for n in range(TURNS):
        turn = await caller.client.enqueue(session_id, f"Number {n}.")
        await caller.client.wait(turn.id, timeout_seconds=90)
        turns.append(turn.id)
    return turns


async def check(caller: Caller, sessions: list[UUID], conversations: list[list[UUID]]) -> None:
    """Every accepted turn is completed, once, in order, and the log says so without a gap."""
    for session, turns in zip(sessions, conversations, strict=True):
        page = await caller.client.list_turns(session)
        assert [turn.id for turn in page.data] == turns
        assert [turn.assistant_text for turn in page.data] == [f"You said: Number {n}." for n in range(TURNS)]
        completed = [event.turn_id for event in await caller.log_of(session) if event.type == "turn.completed"]
        assert completed == turns


async def test_redis_flushed_and_restarted_under_load_loses_no_turn_and_no_worker(
    caller: Caller, system: System
) -> None:
    sessions = [await caller.session() for _ in range(SESSIONS)]
    talking = asyncio.gather(*(converse(caller, session) for session in sessions))
    await system.llm.wait_for_request(lambda _: True, count=SESSIONS // 2)
    with system.broker() as broker:
        broker.flushall()
    await system.llm.wait_for_request(lambda _: True, count=SESSIONS)
    await asyncio.to_thread(system.redis.stop)
    await asyncio.to_thread(system.redis.start)
    await check(caller, sessions, await talking)
    assert all(process.is_running for process in system.processes)


async def test_broker_connections_cut_under_load_run_nothing_twice(caller: Caller, system: System) -> None:
    sessions = [await caller.session() for _ in range(SESSIONS)]
    talking = asyncio.gather(*(converse(caller, session) for session in sessions))
    for part in (3, 2, 1):
        await system.llm.wait_for_request(lambda _: True, count=SESSIONS * TURNS // (part + 1))
        with system.broker() as broker:
            for client in broker.client_list():
                if int(client["id"]) != broker.client_id():
                    broker.client_kill_filter(_id=client["id"])
    await check(caller, sessions, await talking)
    assert len(system.llm.requests) == SESSIONS * TURNS
    assert all(process.is_running for process in system.processes)


async def test_postgresql_restarted_under_load_loses_no_accepted_turn_and_nobody_needs_a_restart(
    caller: Caller, system: System
) -> None:
    sessions = [await caller.session() for _ in range(SESSIONS)]
    talking = asyncio.gather(*(converse(caller, session) for session in sessions))
    await system.llm.wait_for_request(lambda _: True, count=SESSIONS)
    await asyncio.to_thread(system.postgres.stop)
    await asyncio.to_thread(system.postgres.start)
    await check(caller, sessions, await talking)
    assert all(process.is_running for process in system.processes)
