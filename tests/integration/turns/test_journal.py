"""The writer of one attempt's journal: several steps in a commit, in order, once, and never for a turn that is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.proxy import CuttingProxy
from worker.engine.journal import Answered, Started, read_step
from worker.storage.attempts import LeaseLost
from worker.storage.database import Database
from worker.turns.fault_points import AFTER_JOURNAL_COMMIT, BEFORE_JOURNAL_COMMIT, no_fault
from worker.turns.journal import TurnJournal

if TYPE_CHECKING:
    from tests.world import World
    from worker.embedded.postgres import EmbeddedPostgres
    from worker.engine.journal import Step
    from worker.storage.claim import Attempt

STARTED = Started(call_ids=["a", "b"])
A, B = Answered(call_id="a", result=1), Answered(call_id="b", result=2)


@pytest.fixture
async def attempt(world: World) -> Attempt:
    turn = await world.enqueue((await world.session()).session_id)
    return (await world.claim(turn.turn_id)).attempt


def journal(database: Database, attempt: Attempt, **changes: Any) -> TurnJournal:
    given: dict[str, Any] = {"steps": (), "own": 0, "on_lost": lambda: None, "fault_point": no_fault}
    return TurnJournal(database, attempt, **given | changes)


async def written(world: World) -> list[Step]:
    return [read_step(row.step) for row in await world.rows("SELECT step FROM journal_steps ORDER BY number")]


async def test_steps_that_are_ready_together_share_a_commit(world: World, attempt: Attempt) -> None:
    moments: list[str] = []

    async def note(name: str) -> None:
        moments.append(name)

    steps = journal(world.database, attempt, fault_point=note)
    for step in (STARTED, A, B):
        steps.record(step)
    await steps.written()
    assert moments == [BEFORE_JOURNAL_COMMIT, AFTER_JOURNAL_COMMIT]
    assert await written(world) == [STARTED, A, B]


async def test_a_journal_that_has_steps_goes_on_behind_them(world: World, attempt: Attempt) -> None:
    first = journal(world.database, attempt)
    first.record(STARTED)
    await first.written()
    second = journal(world.database, attempt, steps=[STARTED], own=1)
    second.record(A)
    await second.written()
    assert await written(world) == [STARTED, A]


async def test_while_postgresql_is_away_whoever_waits_for_a_step_waits_on(
    world: World, attempt: Attempt, postgres_server: EmbeddedPostgres
) -> None:
    tried = asyncio.Event()

    async def note(_: str) -> None:
        tried.set()

    steps = journal(world.database, attempt, fault_point=note)
    await asyncio.to_thread(postgres_server.stop)
    try:
        steps.record(STARTED)
        waiting = asyncio.create_task(steps.written())
        await tried.wait()
        steps.record(A)
        assert not waiting.done()
    finally:
        await asyncio.to_thread(postgres_server.start)
    await asyncio.wait_for(waiting, 20)
    assert await written(world) == [STARTED, A]


async def test_a_commit_whose_answer_was_lost_is_repeated_without_a_second_step(
    world: World, attempt: Attempt, database_url: str
) -> None:
    async with CuttingProxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=1)
        async with database.statement() as connection:
            await connection.exec_driver_sql("SELECT 1")
        steps = journal(database, attempt)
        proxy.answers_to_lose = 1
        steps.record(STARTED)
        await asyncio.wait_for(steps.written(), 20)
        steps.record(A)
        await steps.written()
        await database.close()
    assert await written(world) == [STARTED, A]


async def test_a_turn_that_is_lost_is_told_of_at_once_and_its_waiting_ends(world: World, attempt: Attempt) -> None:
    lost = asyncio.Event()
    steps = journal(world.database, attempt, on_lost=lost.set)
    await world.expire_lease(attempt.turn_id)
    await world.claim(attempt.turn_id)
    steps.record(STARTED)
    with pytest.raises(LeaseLost):
        await steps.written()
    await asyncio.wait_for(lost.wait(), 5)
    with pytest.raises(LeaseLost):
        await steps.flush()
    assert await written(world) == []


async def test_a_turn_that_is_handed_on_leaves_no_step_behind(world: World, attempt: Attempt) -> None:
    steps = journal(world.database, attempt)
    steps.record(A)
    await steps.flush()
    assert await written(world) == [A]


async def test_a_closed_journal_writes_nothing_more(world: World, attempt: Attempt) -> None:
    steps = journal(world.database, attempt)
    steps.record(A)
    await steps.close()
    assert await written(world) == []
