"""What happens because time has passed happens by itself, and on time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from worker.turns.session_keeper import SessionKeeper
from worker.turns.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.settings import Settings


@pytest.fixture
async def sweeping(
    make_worker: Callable[..., AbstractAsyncContextManager[Worker]], worker_settings: Settings
) -> AsyncIterator[Worker]:
    """A worker whose sweeper is at work, at intervals that are far too long to be on time by chance."""
    async with make_worker() as worker:
        settings = worker_settings.model_copy(update={"sweep_interval_seconds": 2.0})
        sweeper = Sweeper(settings, worker.world.database, worker.dispatch)
        running = asyncio.create_task(sweeper.run())
        yield worker
        sweeper.stop()
        await running


async def until(world: World, session_id: Any, state: str) -> None:
    async with asyncio.timeout(20):
        while (await world.row("sessions", session_id)).state != state:
            pass


async def test_a_scheduled_turn_is_rung_for_when_its_time_comes_and_not_before(world: World, sweeping: Worker) -> None:
    session_id = (await world.session()).session_id
    turn = await world.schedule(session_id, 2.5)
    await sweeping.doorbell.wait_for(sweeping.reference(turn.turn_id))
    (row,) = await world.rows(
        "SELECT extract(epoch FROM available_at - not_before) AS late FROM turns WHERE id = :id", id=turn.turn_id
    )
    assert 0 <= float(row.late) < 1.5
    assert await sweeping.execute(turn.turn_id) == "completed"


async def test_a_session_whose_end_waits_ends_by_itself_after_its_running_turn(world: World, sweeping: Worker) -> None:
    session_id = (await world.session()).session_id
    turn = await world.enqueue(session_id)
    attempt = (await world.claim(turn.turn_id)).attempt
    await world.end(session_id, "hung_up", wait=True)
    await world.complete(attempt)
    await until(world, session_id, "completed")


async def test_a_session_in_which_something_happens_keeps_no_other_from_its_end(world: World, worker: Worker) -> None:
    locked, other = [(await world.session()).session_id for _ in range(2)]
    for session_id in (locked, other):
        attempt = (await world.claim((await world.enqueue(session_id)).turn_id)).attempt
        await world.end(session_id, "hung_up", wait=True)
        await world.complete(attempt)
    keeper = SessionKeeper(world.database, worker.dispatch, batch=100)
    async with world.database.transaction() as connection:
        await connection.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": locked})
        await asyncio.wait_for(keeper.sweep(), 5)
    assert [(await world.row("sessions", id_)).state for id_ in (locked, other)] == ["running", "completed"]
    await keeper.sweep()
    assert (await world.row("sessions", locked)).state == "completed"


async def test_a_session_that_exceeded_its_limit_ends_by_itself(world: World, sweeping: Worker) -> None:
    session_id = (await world.session()).session_id
    await world.execute("UPDATE sessions SET idle_limit_seconds = 0.01, check_limits_at = now()")
    await until(world, session_id, "completed")
    assert (await world.row("sessions", session_id)).end_reason == "user_idle_max_duration_exceeded"
