"""The safety net: what was lost on the way is found, whatever was lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from tests.integration.turns.conftest import RecordingDoorbell
from worker.channel.publisher import ChannelUnavailable, Publisher
from worker.queue.doorbell import BrokerUnavailable, CeleryDoorbell
from worker.turns.dispatch import Dispatch
from worker.turns.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.redis import EmbeddedRedis
    from worker.settings import Settings
    from worker.storage.enqueue import EnqueuedTurn
    from worker.turns.dispatch import TurnReference


@pytest.fixture
def sweeper(worker: Worker, world: World, worker_settings: Settings) -> Sweeper:
    settings = worker_settings.model_copy(
        update={"sweep_after_seconds": 0.001, "ring_again_seconds": 0.001, "sweep_interval_seconds": 0.01}
    )
    return Sweeper(settings, world.database, worker.dispatch)


async def lost_turn(world: World) -> EnqueuedTurn:
    """A turn whose worker has been silent for longer than a lease."""
    turn = await world.enqueue((await world.session()).session_id)
    await world.claim(turn.turn_id)
    await world.expire_lease(turn.turn_id)
    return turn


async def test_a_turn_nobody_was_told_of_is_rung(world: World, worker: Worker, sweeper: Sweeper) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    await sweeper.sweep()
    assert worker.doorbell.rung == [worker.reference(turn.turn_id)]


async def test_a_turn_whose_ring_failed_is_rung_by_the_very_next_sweep(
    world: World, worker: Worker, sweeper: Sweeper
) -> None:
    nowhere = CeleryDoorbell("redis://127.0.0.1:1/0")
    turn = await world.enqueue((await world.session()).session_id)
    failing = Sweeper(sweeper._settings, world.database, Dispatch(world.database, worker.dispatch._publisher, nowhere))
    with pytest.raises(BrokerUnavailable):
        await failing.sweep()
    nowhere.close()
    await sweeper.sweep()
    assert worker.doorbell.rung == [worker.reference(turn.turn_id)]


async def test_a_turn_whose_worker_died_is_rung_and_completed(world: World, worker: Worker, sweeper: Sweeper) -> None:
    turn = await lost_turn(world)
    # Within one lease of the server's own start an expiry proves nothing; this server may be as young as that.
    short = Sweeper(sweeper._settings.model_copy(update={"lease_seconds": 0.001}), world.database, worker.dispatch)
    await short.recover()
    assert worker.doorbell.rung == [worker.reference(turn.turn_id)]


async def test_a_turn_whose_worker_died_is_rung_as_its_lease_runs_out_and_not_an_interval_later(
    world: World, worker: Worker, sweeper: Sweeper
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    await world.claim(turn.turn_id)
    await world.execute(
        "UPDATE turns SET lease_expires_at = now() + interval '1 second' WHERE id = :id", id=turn.turn_id
    )
    patient = sweeper._settings.model_copy(update={"lease_seconds": 0.001, "sweep_interval_seconds": 60.0})
    sweeping = Sweeper(patient, world.database, worker.dispatch)
    running = asyncio.create_task(sweeping.run())
    await worker.doorbell.wait_for(worker.reference(turn.turn_id))
    sweeping.stop()
    await asyncio.wait_for(running, 10)
    row = await world.row("turns", turn.turn_id)
    assert row.lease_expires_at < row.rung_at


async def test_a_lost_turn_is_rung_for_while_everything_else_of_a_sweep_stands_still(
    world: World, worker: Worker, sweeper: Sweeper
) -> None:
    turn = await lost_turn(world)
    short = Sweeper(sweeper._settings.model_copy(update={"lease_seconds": 0.001}), world.database, worker.dispatch)
    async with world.database.transaction() as connection:
        await connection.execute(text("LOCK TABLE sessions, outbox IN ACCESS EXCLUSIVE MODE"))
        running = asyncio.create_task(short.run())
        await worker.doorbell.wait_for(worker.reference(turn.turn_id))
        short.stop()
    await asyncio.wait_for(running, 20)


async def test_a_turn_that_was_rung_for_and_not_claimed_makes_no_sweeper_hurry(
    world: World, worker: Worker, sweeper: Sweeper
) -> None:
    turn = await lost_turn(world)
    await world.execute("UPDATE turns SET rung_at = NULL WHERE id = :id", id=turn.turn_id)
    settings = sweeper._settings.model_copy(update={"lease_seconds": 0.001, "ring_again_seconds": 30.0})
    seconds = await Sweeper(settings, world.database, worker.dispatch).recover()
    assert worker.doorbell.rung == [worker.reference(turn.turn_id)]
    assert seconds is not None
    assert 20 < seconds <= 30


async def test_an_event_nobody_published_goes_out_once(world: World, sweeper: Sweeper) -> None:
    await world.session(opening=True)
    await sweeper.sweep()
    (published,) = await world.rows("SELECT published_at FROM outbox")
    assert published.published_at is not None
    await sweeper.sweep()
    assert (await world.rows("SELECT published_at FROM outbox"))[0] == published


async def test_an_event_that_could_not_be_published_stays_for_the_next_sweep(
    world: World, worker: Worker, worker_settings: Settings, redis_server: EmbeddedRedis
) -> None:
    nowhere = Publisher("redis://127.0.0.1:1/0")
    settings = worker_settings.model_copy(update={"sweep_after_seconds": 0.001})
    failing = Sweeper(settings, world.database, Dispatch(world.database, nowhere, worker.doorbell))
    await world.session(opening=True)
    with pytest.raises(ChannelUnavailable):
        await failing.sweep()
    await nowhere.close()
    assert (await world.rows("SELECT published_at FROM outbox"))[0].published_at is None
    await Sweeper(settings, world.database, worker.dispatch).sweep()
    assert (await world.rows("SELECT published_at FROM outbox"))[0].published_at is not None


async def test_sweeping_goes_on_after_a_sweep_that_failed_and_ends_when_told(
    world: World, worker: Worker, sweeper: Sweeper
) -> None:
    await world.execute("ALTER TABLE turns RENAME TO turns_away")
    running = asyncio.create_task(sweeper.run())
    await world.execute("ALTER TABLE turns_away RENAME TO turns")
    turn = await world.enqueue((await world.session()).session_id)
    await worker.doorbell.wait_for(worker.reference(turn.turn_id))
    sweeper.stop()
    await asyncio.wait_for(running, 10)


class DoorbellThatFailsOnce(RecordingDoorbell):
    """A doorbell whose first ring is lost with its connection."""

    failed = False

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        if not self.failed:
            self.failed = True
            raise BrokerUnavailable("connection reset")
        await super().ring(turns)


async def test_a_sweep_that_broke_off_is_made_up_for_at_once(world: World, worker: Worker, sweeper: Sweeper) -> None:
    doorbell = DoorbellThatFailsOnce()
    dispatch = Dispatch(world.database, worker.dispatch._publisher, doorbell)
    patient = sweeper._settings.model_copy(update={"sweep_interval_seconds": 60.0})
    turn = await world.enqueue((await world.session()).session_id)
    sweeping = Sweeper(patient, world.database, dispatch)
    running = asyncio.create_task(sweeping.run())
    await doorbell.wait_for(worker.reference(turn.turn_id))
    sweeping.stop()
    await asyncio.wait_for(running, 10)


async def test_erasing_what_has_grown_old_holds_up_no_sweep_and_ends_with_the_sweeper(
    world: World, worker: Worker, sweeper: Sweeper
) -> None:
    async with world.database.transaction() as connection:
        await connection.execute(text("LOCK TABLE idempotency_keys IN EXCLUSIVE MODE"))
        running = asyncio.create_task(sweeper.run())
        turn = await world.enqueue((await world.session()).session_id)
        await worker.doorbell.wait_for(worker.reference(turn.turn_id))
        sweeper.stop()
        await asyncio.wait_for(running, 20)
