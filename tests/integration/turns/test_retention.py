"""What an organization keeps for a limited time only is erased when that is over, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import World
from worker.storage.organizations import change_settings
from worker.turns.retention import erase_expired

if TYPE_CHECKING:
    from uuid import UUID

TABLES = ("sessions", "turns", "messages", "outbox", "journal_steps")


async def keep(world: World, **days: int) -> None:
    changes: Any = {f"retention.{name}": value for name, value in days.items()}
    async with world.database.transaction() as connection:
        await change_settings(connection, organization_id=world.organization_id, changes=changes)


async def old(world: World, session_id: UUID, days: int = 10) -> None:
    """As if everything in the session had happened so many days ago."""
    values = {"id": session_id, "days": days}
    ago = "make_interval(days => :days)"
    await world.execute(
        f"UPDATE sessions SET created_at = created_at - {ago}, ended_at = ended_at - {ago} WHERE id = :id", **values
    )
    await world.execute(f"UPDATE turns SET ended_at = ended_at - {ago} WHERE session_id = :id", **values)
    await world.execute(
        f"UPDATE outbox SET created_at = created_at - {ago}, published_at = now() WHERE session_id = :id", **values
    )
    await world.execute(
        "INSERT INTO journal_steps (organization_id, turn_id, number, attempt, step, created_at) "
        f"SELECT organization_id, id, 1, 1, '{{}}', now() - {ago} FROM turns WHERE session_id = :id",
        **values,
    )


async def counts(world: World) -> dict[str, int]:
    return {table: (await world.rows(f"SELECT count(*) FROM {table}"))[0].count for table in TABLES}


async def conversation(world: World) -> UUID:
    session = (await world.session()).session_id
    await world.turn(session)
    return session


async def test_without_a_limit_everything_is_kept(world: World) -> None:
    await old(world, await conversation(world), days=10_000)
    before = await counts(world)
    await erase_expired(world.database)
    assert await counts(world) == before


async def test_sessions_are_erased_when_nothing_has_happened_in_them_for_long(world: World) -> None:
    await keep(world, sessions_days=7)
    expired, ended, active, fresh = [await conversation(world) for _ in range(4)]
    await world.end(ended)
    for session in (expired, ended, active):
        await old(world, session)
    await world.turn(active)
    await erase_expired(world.database)
    assert {row.id for row in await world.rows("SELECT id FROM sessions")} == {active, fresh}
    assert (await counts(world))["turns"] == 3


async def test_a_session_with_a_turn_that_is_not_over_is_kept(world: World) -> None:
    await keep(world, sessions_days=7)
    session = await conversation(world)
    await world.enqueue(session)
    await old(world, session)
    await erase_expired(world.database)
    assert (await counts(world))["sessions"] == 1


async def test_a_session_that_somebody_has_locked_is_left_for_the_next_time(world: World) -> None:
    await keep(world, sessions_days=7)
    session = await conversation(world)
    await old(world, session)
    async with world.database.transaction() as connection:
        await connection.exec_driver_sql("SELECT FROM sessions FOR UPDATE")
        await erase_expired(world.database)
    assert (await counts(world))["sessions"] == 1
    await erase_expired(world.database)
    assert (await counts(world))["sessions"] == 0


@pytest.mark.parametrize(("kind", "table"), [("events_days", "outbox"), ("journal_days", "journal_steps")])
async def test_events_and_journals_are_erased_by_themselves(world: World, kind: str, table: str) -> None:
    await keep(world, **{kind: 7})
    await old(world, await conversation(world))
    before = await counts(world)
    await erase_expired(world.database)
    assert await counts(world) == {**before, table: 0}


async def test_an_event_that_is_still_to_be_published_is_kept(world: World) -> None:
    await keep(world, events_days=7)
    await old(world, await conversation(world))
    await world.execute("UPDATE outbox SET published_at = NULL")
    before = await counts(world)
    await erase_expired(world.database)
    assert await counts(world) == before


async def test_more_than_a_batch_is_erased_in_one_go(world: World) -> None:
    await keep(world, sessions_days=7)
    for _ in range(45):
        await world.session()
    await world.execute("UPDATE sessions SET created_at = now() - interval '10 days'")
    await erase_expired(world.database)
    assert (await counts(world))["sessions"] == 0


async def test_what_another_organization_stored_is_kept(world: World) -> None:
    other = await World.make(world.database, name="Other")
    await keep(other, sessions_days=7, events_days=7, journal_days=7)
    await old(world, await conversation(world))
    before = await counts(world)
    await erase_expired(world.database)
    assert await counts(world) == before
