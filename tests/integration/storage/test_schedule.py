"""Scheduled turns: outside of the line until their time comes, and called off with their session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from worker.storage.schedule import ScheduledTooFarAhead, seconds_to_next
from worker.storage.session_lock import RevisionConflict, SessionEnded

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World


async def positions(world: World, session_id: UUID) -> list[tuple[int | None, str]]:
    rows = await world.rows(
        "SELECT position, status FROM turns WHERE session_id = :id ORDER BY position, id", id=session_id
    )
    return [(row.position, row.status) for row in rows]


async def test_a_scheduled_turn_stands_in_no_line_and_holds_nothing_up(world: World) -> None:
    session_id = (await world.session()).session_id
    later = await world.schedule(session_id, 3600)
    assert [(event.type, event.revision) for event in later.events] == [("turn.scheduled", later.revision)]
    assert await world.claimable(session_id) is None
    assert await world.try_claim(later.turn_id) is None
    assert (await world.say(session_id, on_busy="reject")).position == 1
    assert await positions(world, session_id) == [(1, "pending"), (None, "scheduled")]


async def test_when_its_time_comes_it_takes_its_place_at_the_end_of_the_line(world: World) -> None:
    session_id = (await world.session()).session_id
    later = await world.schedule(session_id, 3600)
    now = await world.enqueue(session_id)
    (event,) = await world.come_due(later.turn_id)
    session = await world.row("sessions", session_id)
    assert (event.type, event.turn_id) == ("turn.enqueued", later.turn_id)
    assert (event.sequence, event.revision) == (session.last_sequence, session.revision)
    assert await positions(world, session_id) == [(1, "pending"), (2, "pending")]
    await world.complete((await world.claim(now.turn_id)).attempt)
    assert (await world.claim(later.turn_id)).parent_turn_id == now.turn_id


async def test_a_time_that_is_past_means_now(world: World) -> None:
    session_id = (await world.session()).session_id
    turn = await world.schedule(session_id, -5)
    assert [event.type for event in turn.events] == ["turn.scheduled", "turn.enqueued"]
    assert turn.revision == (await world.row("sessions", session_id)).revision == 2
    assert await world.claimable(session_id) == turn.turn_id


async def test_several_that_are_due_at_once_keep_the_order_of_their_times(world: World) -> None:
    sessions = [(await world.session()).session_id for _ in range(2)]
    late, early, other = [
        await world.schedule(session_id, delay)
        for session_id, delay in ((sessions[0], 30), (sessions[0], 20), (sessions[1], 10))
    ]
    await world.execute("UPDATE turns SET not_before = not_before - interval '1 hour'")
    events = await world.come_due(other.turn_id)
    assert {event.turn_id for event in events} == {late.turn_id, early.turn_id, other.turn_id}
    order = await world.rows("SELECT id FROM turns WHERE session_id = :id ORDER BY position", id=sessions[0])
    assert [row.id for row in order] == [early.turn_id, late.turn_id]
    for session_id, count in zip(sessions, (2, 1), strict=True):
        session = await world.row("sessions", session_id)
        assert (session.last_position, session.revision, session.last_sequence) == (count, 2 * count, 2 * count)
        log = await world.rows("SELECT sequence, revision FROM outbox WHERE session_id = :id ORDER BY 1", id=session_id)
        assert [tuple(row) for row in log] == [(number, number) for number in range(1, 2 * count + 1)]


async def test_several_sweeps_at_once_release_each_turn_once(world: World) -> None:
    session_id = (await world.session()).session_id
    turn = await world.schedule(session_id, 3600)
    released = await asyncio.gather(*(world.come_due(turn.turn_id) for _ in range(4)))
    assert sum(len(events) for events in released) == 1
    assert (await world.row("sessions", session_id)).last_position == 1


async def test_a_scheduled_turn_may_be_cancelled_and_the_end_of_its_session_cancels_it(world: World) -> None:
    session_id = (await world.session()).session_id
    first, second = await world.schedule(session_id, 60), await world.schedule(session_id, 60)
    await world.cancel(first.turn_id)
    ended = await world.end(session_id)
    assert ended.cancelled == (second.turn_id,)
    assert await positions(world, session_id) == [(None, "cancelled")] * 2
    assert await world.come_due(second.turn_id) == ()
    with pytest.raises(SessionEnded):
        await world.schedule(session_id, 60)


async def test_a_session_with_a_scheduled_turn_can_be_rewound(world: World) -> None:
    session_id = (await world.session()).session_id
    first = await world.turn(session_id)
    await world.turn(session_id)
    later = await world.schedule(session_id, 60)
    await world.rewind(session_id, first)
    await world.come_due(later.turn_id)
    assert (await world.claim(later.turn_id)).parent_turn_id == first


async def test_beyond_the_horizon_and_with_an_old_revision_nothing_is_scheduled(world: World) -> None:
    session_id = (await world.session()).session_id
    await world.enqueue(session_id)
    with pytest.raises(ScheduledTooFarAhead, match="at most 1 days ahead"):
        await world.schedule(session_id, 2 * 86_400)
    with pytest.raises(RevisionConflict):
        await world.schedule(session_id, 60, expected_revision=0)
    assert await positions(world, session_id) == [(1, "pending")]


async def test_a_sweep_knows_how_long_it_may_sleep(world: World) -> None:
    session_id = (await world.session()).session_id
    async with world.database.statement() as connection:
        assert await seconds_to_next(connection) is None
        for delay in (3600, 60):
            await world.schedule(session_id, delay)
        assert await seconds_to_next(connection) == pytest.approx(60, abs=30)
