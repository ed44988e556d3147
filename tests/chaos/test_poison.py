"""A turn that kills its worker, again and again: it is given up, and takes no other with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system import Caller, System

NEIGHBOURS = 4
PATIENCE_SECONDS = 180


async def started(caller: Caller, turn_id: UUID, attempt: int) -> None:
    """Until the turn's worker waits for the LLM in that attempt."""
    calls = 0
    while True:
        calls += 1
        await caller.system.llm.wait_for_request(
            lambda request: request.user_text == "Poison.", count=calls, timeout_seconds=PATIENCE_SECONDS
        )
        if (await caller.world.row("turns", turn_id)).attempt >= attempt:
            return


async def test_a_turn_that_kills_each_of_its_workers_fails_and_every_turn_beside_it_is_answered(
    caller: Caller, system: System
) -> None:
    system.play(
        {"when": {"user_contains": "Poison"}, "hold": "never", "reply": "Never said."},
        {"hold": "neighbours", "reply": "You said: {user}"},
    )
    for worker in list(system.workers)[1:]:
        worker.terminate()
        await worker.exit_status()
    neighbours = [await caller.running(await caller.session(), f"Neighbour {number}") for number in range(NEIGHBOURS)]
    poison = await caller.running(await caller.session(), "Poison.")

    for attempt in (1, 2, 3):
        await started(caller, poison.id, attempt)
        killed = await caller.holder(poison.id)
        killed.kill()
        if attempt == 2:
            system.llm.release("neighbours")
        await asyncio.to_thread(system.start_worker().wait_until_ready)

    failed = await caller.client.wait(poison.id, timeout_seconds=PATIENCE_SECONDS)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == ("failed", "worker_lost")
    assert "3 workers died" in failed.error.message
    answered = [await caller.client.wait(turn.id, timeout_seconds=PATIENCE_SECONDS) for turn in neighbours]
    assert {turn.status for turn in answered} == {"completed"}
    losses = {turn.worker_losses for turn in await caller.turns() if turn.id != poison.id}
    assert losses == {2}, "they lost two workers with it, and none when it had its last chance"
