"""Sessions that end by themselves, as their definition says, and never in the middle of a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import definition
from worker.storage.session_limits import end_exceeded_sessions
from worker.storage.workflows import put_definition

if TYPE_CHECKING:
    from uuid import UUID

    from pydantic import JsonValue

    from tests.world import World

IDLE = "user_idle_max_duration_seconds"
TOTAL = "session_max_duration_seconds"


@pytest.fixture
def limited(world: World) -> Any:
    """Makes a session of a definition with these limits."""

    async def session(**limits: JsonValue) -> UUID:
        async with world.database.transaction() as connection:
            await put_definition(
                connection,
                organization_id=world.organization_id,
                workflow_id=world.workflow_id,
                definition={**definition(), "workflow_configurations": limits},
            )
        return (await world.session()).session_id

    return session


async def hours_pass(world: World, hours: float = 1) -> list[tuple[UUID, str]]:
    """As if everything so far had happened that much earlier, and a sweep had looked; who was ended, and why."""
    values = {"hours": hours}
    for table, columns in {
        "sessions": ("created_at", "check_limits_at"),
        "outbox": ("created_at",),
        "turns": ("created_at", "ended_at"),
    }.items():
        earlier = ", ".join(f"{column} = {column} - make_interval(secs => 3600 * :hours)" for column in columns)
        await world.execute(f"UPDATE {table} SET {earlier}", **values)
    async with world.database.transaction() as connection:
        ended = await end_exceeded_sessions(connection, batch=100)
    return [(session.session_id, session.end_reason) for session in ended]


async def test_a_session_ends_when_its_user_has_said_nothing_for_too_long(world: World, limited: Any) -> None:
    session_id = await limited(**{IDLE: 5400})
    await world.turn(session_id)
    assert await hours_pass(world) == []
    assert await hours_pass(world) == [(session_id, "user_idle_max_duration_exceeded")]
    row = await world.row("sessions", session_id)
    assert (row.state, row.end_reason) == ("completed", "user_idle_max_duration_exceeded")
    assert await hours_pass(world) == []


async def test_whatever_happens_in_a_session_keeps_it_alive(world: World, limited: Any) -> None:
    session_id = await limited(**{IDLE: 5400})
    first = await world.turn(session_id)
    for _ in range(3):
        assert await hours_pass(world) == []
        await world.turn(session_id)
    assert await hours_pass(world) == []
    await world.rewind(session_id, first)
    assert await hours_pass(world) == []


async def test_a_session_whose_events_are_no_longer_kept_lives_as_long_as_its_user_is_waited_for(
    world: World, limited: Any
) -> None:
    session_id = await limited(**{IDLE: 5400})
    assert await hours_pass(world) == []
    await world.turn(session_id)
    await world.execute("DELETE FROM outbox")
    assert await hours_pass(world) == []
    assert await hours_pass(world) == [(session_id, "user_idle_max_duration_exceeded")]


async def test_a_session_ends_when_it_has_gone_on_for_too_long_however_lively_it_is(world: World, limited: Any) -> None:
    session_id = await limited(**{IDLE: 5400, TOTAL: 9000})
    for _ in range(2):
        await world.turn(session_id)
        assert await hours_pass(world) == []
    await world.turn(session_id)
    assert await hours_pass(world) == [(session_id, "session_max_duration_exceeded")]


async def test_a_session_with_a_pending_or_running_turn_is_left_alone_until_that_is_over(
    world: World, limited: Any
) -> None:
    session_id = await limited(**{IDLE: 60, TOTAL: 60})
    turn = await world.enqueue(session_id)
    assert await hours_pass(world) == []
    attempt = (await world.claim(turn.turn_id)).attempt
    assert await hours_pass(world) == []
    await world.complete(attempt)
    assert await hours_pass(world, 0.01) == [(session_id, "session_max_duration_exceeded")]


async def test_a_session_in_which_a_turn_is_scheduled_is_not_idle(world: World, limited: Any) -> None:
    session_id = await limited(**{IDLE: 60})
    later = await world.schedule(session_id, 86_000)
    assert await hours_pass(world) == []
    await world.cancel(later.turn_id)
    assert await hours_pass(world) == [(session_id, "user_idle_max_duration_exceeded")]


async def test_a_session_without_limits_is_never_looked_at(world: World) -> None:
    session_id = (await world.session()).session_id
    assert (await world.row("sessions", session_id)).check_limits_at is None
    assert await hours_pass(world, 100_000) == []


async def test_a_fork_has_the_limits_of_its_source_and_a_clock_of_its_own(world: World, limited: Any) -> None:
    source = await limited(**{TOTAL: 5400})
    await world.turn(source)
    assert await hours_pass(world) == []
    fork = await world.fork(source)
    assert await hours_pass(world) == [(source, "session_max_duration_exceeded")]
    assert await hours_pass(world) == [(fork, "session_max_duration_exceeded")]
