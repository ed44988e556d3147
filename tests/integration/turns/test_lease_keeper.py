"""Leases are kept from a thread of their own, and let go when the loop they stand for is stuck."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import structlog
from sqlalchemy import make_url

from worker.telemetry import names
from worker.turns.lease import LeaseKeeper, Loss

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from structlog.typing import EventDict, WrappedLogger

    from tests.world import World


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own, so that a test can block it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Refused:
    """A last structlog processor that notes a renewal that failed, so that a test can wait for it."""

    def __init__(self) -> None:
        self.noted = threading.Event()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if event["event"] == names.LEASE_RENEWAL_FAILED:
            self.noted.set()
        raise structlog.DropEvent


@pytest.fixture
def refused() -> Iterator[threading.Event]:
    """Set once a renewal has failed."""
    before = structlog.get_config()
    refused = Refused()
    structlog.configure(processors=[refused], cache_logger_on_first_use=False)
    yield refused.noted
    structlog.configure(**before)


def keeper_of(database_url: str, loop: asyncio.AbstractEventLoop, stall_seconds: float = 10.0) -> LeaseKeeper:
    return LeaseKeeper(
        database_url, loop, lease_seconds=10.0, renewal_seconds=0.02, look_seconds=0.02, stall_seconds=stall_seconds
    )


async def expiry(world: World, turn_id: UUID) -> float:
    rows = await world.rows("SELECT extract(epoch FROM lease_expires_at) AS at FROM turns WHERE id = :id", id=turn_id)
    return float(rows[0].at)


async def until_renewed(world: World, turn_id: UUID) -> None:
    before = await expiry(world, turn_id)
    async with asyncio.timeout(10):
        while await expiry(world, turn_id) == before:
            pass


async def test_leases_are_renewed_while_held_and_no_longer(
    world: World, database_url: str, other_loop: asyncio.AbstractEventLoop
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    claimed = await world.claim(turn.turn_id)
    keeper = keeper_of(database_url, other_loop)
    keeper.start()
    with keeper.hold(claimed.attempt, lambda _: None):
        await until_renewed(world, turn.turn_id)
    await asyncio.to_thread(keeper.stop)
    at_last = await expiry(world, turn.turn_id)
    assert await expiry(world, turn.turn_id) == at_last


async def test_losing_a_lease_calls_back_on_the_loop(
    world: World, database_url: str, other_loop: asyncio.AbstractEventLoop
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    claimed = await world.claim(turn.turn_id)
    lost: asyncio.Queue[tuple[Loss, str]] = asyncio.Queue()
    here = asyncio.get_running_loop()
    keeper = keeper_of(database_url, other_loop)
    keeper.start()

    def on_lost(loss: Loss) -> None:
        here.call_soon_threadsafe(lost.put_nowait, (loss, threading.current_thread().name))

    with keeper.hold(claimed.attempt, on_lost):
        await world.expire_lease(turn.turn_id)
        await world.claim(turn.turn_id)
        loss, thread = await asyncio.wait_for(lost.get(), 10)
        assert (loss, thread != "lease-keeper") == (Loss.TAKEN, True)
    await asyncio.to_thread(keeper.stop)


async def test_an_attempt_hears_that_its_turn_was_taken_by_a_later_one_of_the_same_process(
    world: World, database_url: str, other_loop: asyncio.AbstractEventLoop
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    first = await world.claim(turn.turn_id)
    await world.expire_lease(turn.turn_id)
    second = await world.claim(turn.turn_id)
    lost: asyncio.Queue[int] = asyncio.Queue()
    here = asyncio.get_running_loop()
    keeper = keeper_of(database_url, other_loop)

    def on_lost(attempt: int, _: Loss) -> None:
        here.call_soon_threadsafe(lost.put_nowait, attempt)

    with keeper.hold(first.attempt, partial(on_lost, 1)), keeper.hold(second.attempt, partial(on_lost, 2)):
        keeper.start()
        assert await asyncio.wait_for(lost.get(), 10) == 1
        await until_renewed(world, turn.turn_id)
    await asyncio.to_thread(keeper.stop)


async def test_a_cancelled_turn_is_noticed_without_waiting_for_the_renewal(
    world: World, database_url: str, other_loop: asyncio.AbstractEventLoop
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    claimed = await world.claim(turn.turn_id)
    lost: asyncio.Queue[Loss] = asyncio.Queue()
    here = asyncio.get_running_loop()
    keeper = LeaseKeeper(
        database_url, other_loop, lease_seconds=3600.0, renewal_seconds=1800.0, look_seconds=0.02, stall_seconds=10.0
    )
    keeper.start()

    def on_lost(loss: Loss) -> None:
        here.call_soon_threadsafe(lost.put_nowait, loss)

    with keeper.hold(claimed.attempt, on_lost):
        await world.cancel(turn.turn_id)
        assert await asyncio.wait_for(lost.get(), 10) is Loss.CANCELLED
    await asyncio.to_thread(keeper.stop)


async def test_a_loop_that_makes_no_progress_loses_its_leases(
    world: World, database_url: str, other_loop: asyncio.AbstractEventLoop
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    claimed = await world.claim(turn.turn_id)
    keeper = keeper_of(database_url, other_loop, stall_seconds=0.2)
    keeper.start()
    stuck = threading.Event()
    with keeper.hold(claimed.attempt, lambda _: None):
        await until_renewed(world, turn.turn_id)
        other_loop.call_soon_threadsafe(stuck.wait)
        await _until_quiet(world, turn.turn_id)
        stuck.set()
        await until_renewed(world, turn.turn_id)
    await asyncio.to_thread(keeper.stop)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        (
            "ALTER DATABASE {database} SET default_transaction_read_only = on",
            "ALTER DATABASE {database} RESET default_transaction_read_only",
        ),
        ("ALTER TABLE turns RENAME TO turns_away", "ALTER TABLE turns_away RENAME TO turns"),
    ],
    ids=["read only", "defect"],
)
async def test_renewals_go_on_once_postgresql_takes_them_again_whatever_it_refused_them_for(
    world: World,
    database_url: str,
    other_loop: asyncio.AbstractEventLoop,
    refused: threading.Event,
    broken: str,
    mended: str,
) -> None:
    turn = await world.enqueue((await world.session()).session_id)
    claimed = await world.claim(turn.turn_id)
    name = make_url(database_url).database
    keeper = keeper_of(database_url, other_loop)
    keeper.start()
    try:
        with keeper.hold(claimed.attempt, lambda _: None):
            await until_renewed(world, turn.turn_id)
            await world.execute(broken.format(database=name))
            await _reconnect_others(world)
            for _ in ("its connection was ended", "it was refused"):
                refused.clear()
                assert await asyncio.to_thread(refused.wait, 10)
            await world.execute(mended.format(database=name))
            await _reconnect_others(world)
            await until_renewed(world, turn.turn_id)
    finally:
        await asyncio.to_thread(keeper.stop)


async def _reconnect_others(world: World) -> None:
    await world.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def _until_quiet(world: World, turn_id: UUID) -> None:
    """Wait until the lease has not been renewed for ten times the renewal's pause, by the database's clock."""
    async with asyncio.timeout(10):
        while True:
            rows = await world.rows(
                "SELECT now() - (lease_expires_at - interval '10 s') > interval '0.3 s' AS quiet FROM turns WHERE id = :id",
                id=turn_id,
            )
            if rows[0].quiet:
                return
