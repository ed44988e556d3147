"""What the sweeps find, and what they leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.storage.outbox import lock_unpublished, mark_published
from worker.storage.sweeps import purge_idempotency_keys, take_expired_turns, take_overdue_turns

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World


async def overdue(world: World, **changes: Any) -> list[UUID]:
    limits = {"after_seconds": 2.0, "again_seconds": 10.0, "batch": 100} | changes
    async with world.database.transaction() as connection:
        return [turn_id for _, turn_id in await take_overdue_turns(connection, **limits)]


async def expired(world: World) -> list[UUID]:
    async with world.database.statement() as connection:
        taken = await take_expired_turns(connection, again_seconds=10.0, lease_seconds=0.001, batch=100)
    return [turn_id for _, turn_id in taken]


async def age(world: World) -> None:
    await world.execute(
        "UPDATE turns SET available_at = available_at - interval '3 s', rung_at = rung_at - interval '11 s'"
    )


async def test_a_turn_that_was_rung_for_and_not_claimed_is_taken_after_a_while(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    assert await overdue(world) == [], "it is rung by whoever enqueued it"
    await age(world)
    assert await overdue(world) == [turn.turn_id]


async def test_a_turn_that_nobody_noticed_at_the_head_of_its_line_is_taken_after_a_while(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    second = await world.enqueue(session.session_id)
    await world.complete((await world.claim(first.turn_id)).attempt)
    assert await overdue(world) == [], "it is rung by whoever ended the one before"
    await age(world)
    assert await overdue(world) == [second.turn_id]


async def test_a_ring_for_a_turn_behind_another_takes_no_room(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    second = await world.enqueue(session.session_id)
    await world.claim(first.turn_id)
    await world.execute("UPDATE turns SET rung_at = now() - interval '1 hour' WHERE id = :id", id=second.turn_id)
    assert await overdue(world) == []
    row = await world.row("turns", second.turn_id)
    assert (row.rung_at, row.waiting) == (None, False)


async def test_a_turn_rung_by_a_sweep_is_not_rung_again_at_once(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await age(world)
    assert await overdue(world) == [turn.turn_id]
    assert await overdue(world) == []
    await world.execute("UPDATE turns SET rung_at = rung_at - interval '11 s'")
    assert await overdue(world) == [turn.turn_id]


async def test_only_the_head_of_a_line_is_taken(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    await world.enqueue(session.session_id)
    await age(world)
    assert await overdue(world) == [first.turn_id]


async def test_running_turns_are_taken_once_their_lease_has_expired(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.claim(turn.turn_id)
    await age(world)
    assert await expired(world) == []
    await world.expire_lease(turn.turn_id)
    assert await expired(world) == [turn.turn_id]
    assert await expired(world) == [], "it was rung for just now"


async def test_a_turn_that_waits_for_a_retry_is_taken_only_after_its_pause(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.retry((await world.claim(turn.turn_id)).attempt, delay_seconds=2)
    assert await overdue(world, after_seconds=0) == []
    await age(world)
    assert await overdue(world, after_seconds=0) == [turn.turn_id]


async def test_two_sweeps_at_once_take_different_turns(world: World) -> None:
    turns = {(await world.enqueue((await world.session()).session_id)).turn_id for _ in range(4)}
    await age(world)
    limits = {"after_seconds": 2.0, "again_seconds": 10.0, "batch": 2}
    async with world.database.transaction() as one, world.database.transaction() as other:
        taken = [turn_id for _, turn_id in await take_overdue_turns(one, **limits)]  # type: ignore[arg-type] # mixed
        taken += [turn_id for _, turn_id in await take_overdue_turns(other, **limits)]  # type: ignore[arg-type] # mixed
    assert len(taken) == 4
    assert set(taken) == turns


async def test_an_event_is_swept_until_it_is_marked_published(world: World) -> None:
    await world.session(opening=True)
    async with world.database.transaction() as connection:
        assert await lock_unpublished(connection, older_than_seconds=60, batch=10) == ()
        (event,) = await lock_unpublished(connection, older_than_seconds=0, batch=10)
    assert (event.type, event.sequence, event.revision) == ("turn.enqueued", 1, 1)
    async with world.database.transaction() as connection:
        await mark_published(connection, [event])
        assert await lock_unpublished(connection, older_than_seconds=0, batch=10) == ()


async def test_idempotency_keys_are_forgotten_after_their_lifetime(world: World) -> None:
    for days in (0, 2):
        await world.execute(
            "INSERT INTO idempotency_keys (organization_id, method, path, key, fingerprint, created_at) "
            "VALUES (:organization_id, 'POST', '/', :key, '', now() - make_interval(days => :days))",
            organization_id=world.organization_id,
            key=str(uuid4()),
            days=days,
        )
    async with world.database.transaction() as connection:
        assert await purge_idempotency_keys(connection, older_than_seconds=24 * 3600) == 1
    assert await world.rows("SELECT count(*) FROM idempotency_keys") == [(1,)]
