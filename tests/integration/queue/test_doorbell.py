"""Ringing over Celery: a message with ids for each turn, and a clear error when the broker is away."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import redis
from celery.backends.base import DisabledBackend
from kombu.exceptions import OperationalError

from worker.queue.app import QUEUE, RUN_TURN, celery_app
from worker.queue.doorbell import BrokerUnavailable, CeleryDoorbell
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from worker.embedded.redis import EmbeddedRedis


async def test_each_turn_rung_for_is_one_message_that_carries_its_ids_and_no_data(redis_url: str) -> None:
    doorbell = CeleryDoorbell(redis_url)
    turns = [TurnReference(uuid4(), uuid4()) for _ in range(3)]
    await doorbell.ring(turns)
    doorbell.close()
    with redis.Redis.from_url(redis_url) as client:
        messages = [json.loads(message) for message in client.lrange(QUEUE, 0, -1)]
    assert {message["headers"]["task"] for message in messages} == {RUN_TURN}
    rung = {
        tuple(json.loads(message["headers"]["argsrepr"].replace("(", "[").replace(")", "]").replace("'", '"')))
        for message in messages
    }
    assert rung == {(str(turn.turn_id), str(turn.organization_id)) for turn in turns}


async def test_a_broker_that_is_away_is_a_clear_error_and_ringing_works_again_once_it_is_back(
    redis_server: EmbeddedRedis, redis_url: str
) -> None:
    doorbell = CeleryDoorbell(redis_url)
    turn = TurnReference(uuid4(), uuid4())
    await doorbell.ring([turn])
    redis_server.stop()
    try:
        with pytest.raises(BrokerUnavailable, match="Nothing is lost"):
            await doorbell.ring([turn])
    finally:
        redis_server.start()
    await doorbell.ring([turn])
    doorbell.close()


async def test_a_ring_that_fails_is_not_tried_again() -> None:
    """Rings wait for each other, and a sweep rings again: trying longer would only delay them all."""
    connections = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1") as server:
        doorbell = CeleryDoorbell(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        with pytest.raises(BrokerUnavailable):
            await doorbell.ring([TurnReference(uuid4(), uuid4())])
        doorbell.close()
    assert connections == 1


def test_a_worker_tries_to_reach_its_broker_again_soon_however_long_it_was_away() -> None:
    pauses: list[float] = []
    with celery_app("redis://127.0.0.1:1/0").connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), 4)
    assert pauses == [1, 2, 2, 2]


def test_the_threads_of_a_worker_share_one_backend_that_keeps_no_result() -> None:
    app = celery_app("redis://127.0.0.1:1")
    backend = app.backend
    with ThreadPoolExecutor(max_workers=1) as other_thread:
        assert other_thread.submit(lambda: app.backend).result() is backend
    assert isinstance(backend, DisabledBackend)
