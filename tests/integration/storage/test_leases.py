"""Renewal of leases: one statement, guarded by attempt and status, waiting for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import text

from worker.storage.database import DatabaseUnavailable
from worker.storage.leases import LeaseConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.world import World


@pytest.fixture
def leases(database_url: str) -> Iterator[LeaseConnection]:
    connection = LeaseConnection(database_url)
    yield connection
    connection.close()


async def test_a_renewed_lease_runs_from_now(world: World, leases: LeaseConnection) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.claim(turn.turn_id)
    await world.execute("UPDATE turns SET lease_expires_at = now() + interval '1 s'")
    assert leases.renew({(turn.turn_id, 1)}, 10) == {(turn.turn_id, 1)}
    rows = await world.rows("SELECT extract(epoch FROM lease_expires_at - now()) AS left FROM turns")
    assert float(rows[0].left) == pytest.approx(10, abs=1)


async def test_a_lease_that_expired_but_was_not_taken_is_renewed_all_the_same(
    world: World, leases: LeaseConnection
) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.claim(turn.turn_id)
    await world.expire_lease(turn.turn_id)
    assert leases.renew({(turn.turn_id, 1)}, 10) == {(turn.turn_id, 1)}


async def test_turns_that_are_over_or_taken_or_unknown_do_not_come_back(world: World, leases: LeaseConnection) -> None:
    ended, taken = [await world.enqueue((await world.session()).session_id) for _ in range(2)]
    await world.complete((await world.claim(ended.turn_id)).attempt)
    await world.claim(taken.turn_id)
    await world.expire_lease(taken.turn_id)
    await world.claim(taken.turn_id)
    assert leases.renew({(ended.turn_id, 1), (taken.turn_id, 1), (uuid4(), 1)}, 10) == set()


async def test_renewal_does_not_wait_for_a_turn_that_is_being_committed_and_still_counts_it_as_held(
    world: World, leases: LeaseConnection
) -> None:
    committing, other = [await world.enqueue((await world.session()).session_id) for _ in range(2)]
    await world.claim(committing.turn_id)
    await world.claim(other.turn_id)
    held = {(committing.turn_id, 1), (other.turn_id, 1)}
    async with world.database.transaction() as connection:
        await connection.execute(text("SELECT 1 FROM turns WHERE id = :id FOR UPDATE"), {"id": committing.turn_id})
        assert leases.renew(held, 10) == held


async def test_a_lost_connection_is_reported_and_the_next_renewal_connects_again(
    world: World, leases: LeaseConnection
) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.claim(turn.turn_id)
    leases.renew({(turn.turn_id, 1)}, 10)
    await world.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE '%renewable%' AND pid <> pg_backend_pid()"
    )
    with pytest.raises(DatabaseUnavailable):
        leases.renew({(turn.turn_id, 1)}, 10)
    assert leases.renew({(turn.turn_id, 1)}, 10) == {(turn.turn_id, 1)}
