"""Who is rung for, and who waits: no more than workers have room for, and no organization at the expense of another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import World
from worker.storage.backlog import Line, choose_turns, forget_rings
from worker.storage.claim import RunningSlotTaken, claim_turn
from worker.storage.organizations import change_settings
from worker.storage.worker_processes import keep_alive, sign_off

if TYPE_CHECKING:
    from uuid import UUID

    from worker.storage.claim import ClaimedTurn
    from worker.storage.enqueue import EnqueuedTurn

BACKLOG = 10_000


async def workers(world: World, concurrency: int) -> None:
    async with world.database.statement() as connection:
        await keep_alive(connection, name="worker", concurrency=concurrency)


async def limit(world: World, **limits: Any) -> None:
    changes = {f"limits.{name}": value for name, value in limits.items()}
    async with world.database.transaction() as connection:
        await change_settings(connection, organization_id=world.organization_id, changes=changes)


async def chosen(world: World, *sessions: UUID, at_most: int = 100) -> list[UUID]:
    lines = [Line(world.organization_id, session_id) for session_id in sessions]
    async with world.database.statement() as connection:
        return [turn_id for _, turn_id in await choose_turns(connection, lines=lines, at_most=at_most)]


async def enqueue(world: World, **values: Any) -> EnqueuedTurn:
    return await world.enqueue((await world.session()).session_id, **values)


async def claim_at_once(world: World, turn_id: UUID) -> ClaimedTurn | None:
    """As a worker does it: in a transaction of its own, again when another was faster."""
    while True:
        try:
            async with world.database.statement() as connection:
                return await claim_turn(
                    connection,
                    organization_id=world.organization_id,
                    turn_id=turn_id,
                    claimed_by="worker",
                    lease_seconds=world.lease_seconds,
                    deadline_seconds=world.deadline_seconds,
                )
        except RunningSlotTaken:
            continue


async def large_backlog(world: World) -> None:
    """So many sessions of the organization, each with a turn that waits."""
    await world.execute(
        """
        WITH one AS (SELECT * FROM sessions WHERE organization_id = :organization_id LIMIT 1), added AS (
            INSERT INTO sessions (id, organization_id, workflow_id, definition_id, last_position)
            SELECT gen_random_uuid(), one.organization_id, one.workflow_id, one.definition_id, 1
            FROM one, generate_series(1, :count)
            RETURNING id, organization_id
        )
        INSERT INTO turns (id, organization_id, session_id, position, waiting)
        SELECT gen_random_uuid(), organization_id, id, 1, true FROM added
        """,
        organization_id=world.organization_id,
        count=BACKLOG,
    )


async def test_a_turn_is_rung_for_while_workers_have_room_and_waits_when_they_have_none(world: World) -> None:
    await workers(world, 2)
    turns = [await enqueue(world) for _ in range(3)]
    assert [turn.rung for turn in turns] == [True, True, False]
    assert [turn.claimable for turn in turns] == [True, True, True]
    assert await chosen(world) == [], "no worker has room"
    claimed = await world.claim(turns[0].turn_id)
    assert await chosen(world) == [], "a claim makes none"
    await world.complete(claimed.attempt)
    assert await chosen(world, turns[0].session_id) == [turns[2].turn_id]
    assert await chosen(world) == []


async def test_the_room_of_workers_that_signed_off_or_fell_silent_is_not_counted(world: World) -> None:
    await workers(world, 1)
    async with world.database.statement() as connection:
        await keep_alive(connection, name="leaving", concurrency=1)
        await keep_alive(connection, name="silent", concurrency=1)
        await sign_off(connection, name="leaving")
    await world.execute("UPDATE worker_processes SET seen_at = now() - interval '1 minute' WHERE name = 'silent'")
    assert [(await enqueue(world)).rung for _ in range(2)] == [True, False]


async def test_a_turn_enqueued_while_others_wait_does_not_go_before_them(world: World) -> None:
    await workers(world, 1)
    first, second = await enqueue(world), await enqueue(world)
    await world.complete((await world.claim(first.turn_id)).attempt)
    third = await enqueue(world)
    assert not third.rung, "there is room, but another waits for it"
    assert await chosen(world, third.session_id, at_most=1) == [second.turn_id]


async def test_one_turn_is_next_although_another_organization_has_ten_thousand_waiting(world: World) -> None:
    other = await World.make(world.database, name="Other")
    await workers(world, 2)
    running = [await world.claim((await enqueue(world)).turn_id) for _ in range(2)]
    await large_backlog(world)
    single = await enqueue(other)
    assert not single.rung
    await world.complete(running[0].attempt)
    assert await chosen(world, running[0].attempt.session_id, at_most=1) == [single.turn_id]
    assert (await world.rows("SELECT count(*) FROM turns WHERE waiting")) == [(BACKLOG,)]
    assert (await world.rows("SELECT count(*) FROM turns WHERE status = 'pending' AND rung_at IS NOT NULL")) == [(1,)]


async def test_organizations_share_what_room_there_is(world: World) -> None:
    worlds = [world, await World.make(world.database, name="B"), await World.make(world.database, name="C")]
    await workers(world, 1)
    blocking = await world.claim((await enqueue(world)).turn_id)
    for each in worlds:
        for _ in range(4):
            await enqueue(each)
    await world.complete(blocking.attempt)
    await workers(world, 6)
    async with world.database.statement() as connection:
        owners = [organization_id for organization_id, _ in await choose_turns(connection, at_most=100)]
    assert sorted(owners.count(each.organization_id) for each in worlds) == [2, 2, 2]


async def test_choosers_at_the_same_time_choose_different_turns(world: World) -> None:
    await workers(world, 1)
    blocking = await world.claim((await enqueue(world)).turn_id)
    waiting = {(await enqueue(world)).turn_id for _ in range(2)}
    await world.complete(blocking.attempt)
    await workers(world, 2)
    async with world.database.transaction() as one, world.database.transaction() as other:
        taken = [*await choose_turns(one, at_most=1), *await choose_turns(other, at_most=1)]
    assert {turn_id for _, turn_id in taken} == waiting


async def test_of_an_organizations_waiting_turns_those_of_higher_priority_go_first(world: World) -> None:
    await workers(world, 1)
    blocking = await world.claim((await enqueue(world)).turn_id)
    low, normal, high = [await enqueue(world, priority=priority) for priority in (-5, 0, 5)]
    await world.complete(blocking.attempt)
    assert await chosen(world, at_most=1) == [high.turn_id]
    await workers(world, 10)
    assert set(await chosen(world)) == {low.turn_id, normal.turn_id}


async def test_inside_a_session_the_order_of_the_line_beats_priority(world: World) -> None:
    await workers(world, 1)
    blocking = await world.claim((await enqueue(world)).turn_id)
    session = (await world.session()).session_id
    first = await world.enqueue(session, priority=0)
    await world.enqueue(session, priority=10)
    await world.complete(blocking.attempt)
    await workers(world, 10)
    assert await chosen(world, session) == [first.turn_id]


async def test_a_turn_in_back_off_joins_the_backlog_when_its_pause_is_over(world: World) -> None:
    turn = await enqueue(world)
    await world.retry((await world.claim(turn.turn_id)).attempt, delay_seconds=60)
    assert await chosen(world, turn.session_id) == []
    await world.execute("UPDATE turns SET available_at = now()")
    assert await chosen(world) == [turn.turn_id]


async def test_a_turn_whose_ring_failed_goes_back_into_the_backlog(world: World) -> None:
    await workers(world, 1)
    turn = await enqueue(world)
    async with world.database.statement() as connection:
        await forget_rings(connection, [(world.organization_id, turn.turn_id)])
    assert await chosen(world) == [turn.turn_id]


async def test_no_more_of_an_organization_run_than_may_even_if_all_are_claimed_at_the_same_moment(world: World) -> None:
    await limit(world, max_running_turns=3)
    turns = [await enqueue(world) for _ in range(12)]
    assert not any(turn.rung for turn in turns), "they join the backlog, from which as many are chosen as may run"
    claims = await asyncio.gather(*(claim_at_once(world, turn.turn_id) for turn in turns))
    assert sum(claim is not None for claim in claims) == 3
    assert await chosen(world) == []


@pytest.mark.parametrize("end", ["complete", "fail", "retry", "give_back"])
async def test_whatever_ends_an_attempt_makes_room_in_the_limit(world: World, end: str) -> None:
    await limit(world, max_running_turns=1)
    first, second = await enqueue(world), await enqueue(world)
    claimed = await world.claim(first.turn_id)
    assert await world.try_claim(second.turn_id) is None
    await getattr(world, end)(claimed.attempt)
    assert await world.try_claim(second.turn_id) is not None


async def test_the_end_of_its_session_makes_room_in_the_limit(world: World) -> None:
    await limit(world, max_running_turns=1)
    first, second = await enqueue(world), await enqueue(world)
    await world.claim(first.turn_id)
    await world.end(first.session_id)
    assert await chosen(world, first.session_id) == [second.turn_id]
    assert await world.try_claim(second.turn_id) is not None


async def test_a_turn_whose_worker_was_lost_keeps_its_place_in_the_limit(world: World) -> None:
    await limit(world, max_running_turns=1)
    first, second = await enqueue(world), await enqueue(world)
    await world.claim(first.turn_id)
    await world.expire_lease(first.turn_id)
    assert await world.try_claim(second.turn_id) is None
    assert (await world.claim(first.turn_id)).attempt.attempt == 2


async def test_an_organization_at_its_limit_does_not_hold_up_another(world: World) -> None:
    other = await World.make(world.database, name="Other")
    await limit(world, max_running_turns=1)
    await workers(world, 5)
    for _ in range(3):
        await enqueue(world)
    turns = await chosen(world)
    assert len(turns) == 1
    await world.claim(turns[0])
    single = await enqueue(other)
    assert single.rung or await chosen(other, single.session_id) == [single.turn_id]
