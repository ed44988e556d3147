"""An API that dies after it has accepted a turn: nobody rings for it, and it runs all the same."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from api_stub.client import Turn
    from tests.system import Caller, System

MESSAGES = 20


async def test_a_turn_whose_api_is_killed_between_commit_and_ring_is_run_by_a_sweep_within_4_seconds(
    caller: Caller, system: System
) -> None:
    session = await caller.session()
    # A new API has no connection to the broker yet, and gets none: its ring is certain not to leave it.
    await asyncio.to_thread(system.start_api().wait_until_ready)
    os.kill(system.redis.pid, signal.SIGSTOP)
    turn = await caller.client.enqueue(session, "Hello.")
    system.api.kill()
    os.kill(system.redis.pid, signal.SIGCONT)
    await asyncio.to_thread(system.start_api().wait_until_ready)
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.attempt) == ("completed", 1)
    assert 2 < _seconds_to_answer(answered) < 4


async def test_what_an_api_killed_under_load_has_accepted_is_answered(caller: Caller, system: System) -> None:
    sessions = [await caller.session() for _ in range(MESSAGES)]
    accepted = []

    async with httpx.AsyncClient(base_url=system.url, headers=caller.headers) as http:

        async def enqueue(session: object) -> None:
            try:
                response = await http.post(f"/v1/sessions/{session}/turns", json={"text": "Hello."})
            except httpx.TransportError:
                return
            assert response.status_code == 202
            accepted.append(response.json()["id"])
            if system.api.is_running:
                system.api.kill()

        await asyncio.gather(*(enqueue(session) for session in sessions))
    assert accepted
    await asyncio.to_thread(system.start_api().wait_until_ready)
    for turn_id in accepted:
        answered = await caller.client.wait(turn_id, timeout_seconds=30)
        assert (answered.status, answered.assistant_text, answered.attempt) == ("completed", "You said: Hello.", 1)
        assert _seconds_to_answer(answered) < 4
    # What was committed is answered whether or not its caller heard of it.
    for row in await caller.world.rows(
        "SELECT id FROM turns WHERE organization_id = :id", id=caller.world.organization_id
    ):
        await caller.client.wait(row.id, timeout_seconds=30)
    await caller.expect_each_completed_once()


def _seconds_to_answer(turn: Turn) -> float:
    assert turn.ended_at is not None
    return (turn.ended_at - turn.created_at).total_seconds()
