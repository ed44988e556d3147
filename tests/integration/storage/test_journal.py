"""The journal of a turn: written under the attempt's fence, read by whoever goes on with the turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from worker.storage.attempts import LeaseLost
from worker.storage.claim import claim_turn
from worker.storage.journal import read_journals, write_steps

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World
    from worker.storage.claim import Attempt

SOMEONE_WAITS = "SELECT FROM pg_locks WHERE NOT granted"


async def write(world: World, attempt: Attempt, *steps: Any, after: int = 0) -> None:
    async with world.database.statement() as connection:
        await write_steps(connection, attempt, after=after, steps=steps)


async def read(world: World, turn_id: UUID, organization_id: UUID | None = None) -> list[Any]:
    async with world.database.statement() as connection:
        journals = await read_journals(
            connection, organization_id=organization_id or world.organization_id, turn_id=turn_id
        )
    return [step for journal in journals for step in journal.steps]


async def claimed(world: World) -> Attempt:
    turn = await world.enqueue((await world.session()).session_id)
    return (await world.claim(turn.turn_id)).attempt


async def reclaimed(world: World, attempt: Attempt) -> Attempt:
    await world.expire_lease(attempt.turn_id)
    return (await world.claim(attempt.turn_id)).attempt


async def test_steps_come_back_in_their_order_over_all_attempts(world: World) -> None:
    first = await claimed(world)
    await write(world, first, "one", {"two": 2})
    await write(world, first, ["three"], after=2)
    second = await reclaimed(world, first)
    await write(world, second, None, after=3)
    assert await read(world, first.turn_id) == ["one", {"two": 2}, ["three"], None]
    rows = await world.rows("SELECT attempt FROM journal_steps ORDER BY number")
    assert [row.attempt for row in rows] == [1, 1, 1, 2]


async def test_what_postgresql_refuses_as_text_is_kept_in_a_step(world: World) -> None:
    attempt = await claimed(world)
    await write(world, attempt, {"said": "a\0b \ud83d"})
    assert await read(world, attempt.turn_id) == [{"said": "a\0b \ud83d"}]


async def test_an_attempt_that_lost_its_turn_writes_nothing(world: World) -> None:
    first = await claimed(world)
    await reclaimed(world, first)
    with pytest.raises(LeaseLost):
        await write(world, first, "late")
    assert await read(world, first.turn_id) == []


async def test_nothing_is_written_for_a_turn_that_is_over(world: World) -> None:
    attempt = await claimed(world)
    await world.complete(attempt)
    with pytest.raises(LeaseLost):
        await write(world, attempt, "late")


async def test_writing_the_same_steps_again_does_no_harm(world: World) -> None:
    attempt = await claimed(world)
    for _ in range(2):
        await write(world, attempt, "one", "two")
    assert await read(world, attempt.turn_id) == ["one", "two"]


async def test_a_step_written_while_somebody_claims_the_turn_waits_for_the_claim_and_is_refused(world: World) -> None:
    stale = await claimed(world)
    await world.expire_lease(stale.turn_id)
    async with world.database.transaction() as connection:
        fresh = await claim_turn(
            connection,
            organization_id=world.organization_id,
            turn_id=stale.turn_id,
            claimed_by="other",
            lease_seconds=0.001,
            deadline_seconds=600,
        )
        assert fresh is not None
        writing = asyncio.create_task(write(world, stale, "late"))
        while not await world.rows(SOMEONE_WAITS):
            pass
    with pytest.raises(LeaseLost):
        await writing
    assert await read(world, stale.turn_id) == []


async def test_a_claim_waits_for_a_step_under_way_and_then_finds_it(world: World) -> None:
    stale = await claimed(world)
    await world.expire_lease(stale.turn_id)
    async with world.database.transaction() as connection:
        await write_steps(connection, stale, after=0, steps=["in time"])
        claiming = asyncio.create_task(world.claim(stale.turn_id))
        while not await world.rows(SOMEONE_WAITS):
            pass
    await claiming
    assert await read(world, stale.turn_id) == ["in time"]


async def test_the_journal_of_another_organization_is_neither_read_nor_written(world: World) -> None:
    attempt = await claimed(world)
    await write(world, attempt, "mine")
    assert await read(world, attempt.turn_id, uuid4()) == []
    await world.execute("UPDATE turns SET organization_id = :other", other=uuid4())
    with pytest.raises(LeaseLost):
        await write(world, attempt, "mine", after=1)


async def test_a_step_costs_its_own_text_and_less_than_200_bytes(world: World) -> None:
    attempt = await claimed(world)
    await write(world, attempt, *({"result": "x" * 100} for _ in range(5000)))
    async with world.database.statement() as connection:
        size = await connection.scalar(text("SELECT pg_total_relation_size('journal_steps')"))
    assert size / 5000 < 113 + 200
