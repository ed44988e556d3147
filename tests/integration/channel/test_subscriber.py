from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import redis

from tests.integration.channel.news import ORGANIZATION, Log, Operator, new_session
from worker.channel.envelope import channel_name, channel_pattern
from worker.channel.listener import Gap, Listener
from worker.channel.publisher import Publisher
from worker.channel.subscriber import Subscriber
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.channel.envelope import Envelope
    from worker.embedded.redis import EmbeddedRedis

RECONNECTED = Gap("reconnected")


@asynccontextmanager
async def subscribing(
    url: str, *, pattern: str = "turns.*", silence_seconds: float = 10.0
) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(url, patterns=[pattern], silence_seconds=silence_seconds)
    try:
        await subscriber.start()
        yield subscriber
    finally:
        await subscriber.close()


async def publish(url: str, *events: Envelope) -> None:
    publisher = Publisher(url)
    await publisher.publish(events)
    await publisher.close()


async def heard(listener: Listener, count: int = 1) -> list[Envelope | Gap]:
    return [await anext(listener) for _ in range(count)]


async def test_once_started_it_hears_the_very_next_event(redis_url: str) -> None:
    for _ in range(20):
        (event,) = new_session()
        subscriber = Subscriber(redis_url)
        async with subscriber.listen(event.session_id) as listener:
            await subscriber.start()
            assert subscriber.connected
            await publish(redis_url, event)
            assert await heard(listener, 2) == [RECONNECTED, event]
        await subscriber.close()


async def test_a_listener_hears_its_session_or_its_turn_and_nothing_else(
    subscriber: Subscriber, publisher: Publisher
) -> None:
    first, second = new_session(turns=3), new_session(turns=3)
    assert first[1].turn_id
    async with (
        subscriber.listen(first[0].session_id) as of_session,
        subscriber.listen(first[1].turn_id) as of_turn,
        subscriber.listen(second[0].session_id) as of_other,
    ):
        await publisher.publish([event for pair in zip(first, second, strict=True) for event in pair])
        assert await heard(of_other, 3) == second
        assert await heard(of_session, 3) == first
        assert await heard(of_turn) == [first[1]]
        assert not of_turn._unread


async def test_events_without_a_turn_reach_the_listeners_of_their_session(
    subscriber: Subscriber, publisher: Publisher
) -> None:
    (event,) = new_session()
    ended = event.__class__(ORGANIZATION, event.session_id, None, 2, "session.ended", event.time)
    async with subscriber.listen(event.session_id) as listener:
        await publisher.publish([event, ended])
        assert await heard(listener, 2) == [event, ended]


async def test_many_listeners_of_one_turn_each_hear_everything(subscriber: Subscriber, publisher: Publisher) -> None:
    (event,) = new_session()
    async with asyncio.TaskGroup() as group:
        all_listen = asyncio.Barrier(101)

        async def wait_for_it() -> None:
            async with subscriber.listen(event.session_id) as listener:
                await all_listen.wait()
                assert await heard(listener) == [event]

        for _ in range(100):
            group.create_task(wait_for_it())
        await all_listen.wait()
        await publisher.publish([event])


async def test_a_process_has_one_subscription_however_many_listen(server: EmbeddedRedis, operator: Operator) -> None:
    async with subscribing(server.url) as subscriber, subscriber.listen(uuid4()), subscriber.listen(uuid4()):
        assert operator.connections() == ["turn-worker-subscriber"]
        assert operator.calls("psubscribe") == 1


async def test_nothing_is_kept_of_a_listener_that_left(subscriber: Subscriber) -> None:
    session_id = uuid4()
    async with subscriber.listen(session_id):
        async with subscriber.listen(session_id):
            pass
        assert len(subscriber._listeners) == 1
    assert not subscriber._listeners


async def test_a_subscription_can_be_held_to_one_organization(redis_url: str) -> None:
    (ours,), (theirs,) = new_session(), new_session(organization_id=uuid4())
    async with (
        subscribing(redis_url, pattern=channel_pattern(ORGANIZATION)) as subscriber,
        subscriber.listen(ours.session_id) as listener,
        subscriber.listen(theirs.session_id) as foreign,
    ):
        await publish(redis_url, theirs, ours)
        assert await heard(listener) == [ours]
        assert not foreign._unread


async def test_what_nobody_listens_to_is_not_even_decoded(
    subscriber: Subscriber, publisher: Publisher, redis_url: str, log: Log
) -> None:
    (event,) = new_session()
    async with subscriber.listen(event.session_id) as listener:
        with redis.Redis.from_url(redis_url) as client:
            client.publish(channel_name(ORGANIZATION, uuid4(), uuid4()), "no envelope")
            client.publish("turns.of-somebody-else", "no envelope")
        await publisher.publish([event])
        assert await heard(listener) == [event]
    assert not log.lines


async def test_a_message_that_cannot_be_decoded_is_logged_and_sends_its_listeners_to_the_database(
    subscriber: Subscriber, publisher: Publisher, redis_url: str, log: Log
) -> None:
    (event,) = new_session()
    async with subscriber.listen(event.session_id) as listener:
        with redis.Redis.from_url(redis_url) as client:
            client.publish(event.channel, b"\xffno envelope")
        await publisher.publish([event])
        assert await heard(listener, 2) == [Gap("unreadable"), event]
    assert log.named(names.CHANNEL_MESSAGE_UNREADABLE)[0]["channel"] == event.channel


async def test_closing_ends_the_listeners_after_what_they_had_not_read(redis_url: str) -> None:
    events = new_session(turns=2)
    async with (
        subscribing(redis_url) as subscriber,
        subscriber.listen(events[0].session_id) as listener,
        subscriber.listen(events[0].session_id) as witness,
    ):
        await publish(redis_url, *events)
        await heard(witness, 2)
        await subscriber.close()
        assert [event async for event in listener] == events
        assert [event async for event in witness] == []
        assert not subscriber.connected


async def test_after_an_outage_of_redis_listeners_get_a_gap_and_then_hear_again(
    server: EmbeddedRedis, log: Log
) -> None:
    (event,) = new_session()
    async with subscribing(server.url) as subscriber, subscriber.listen(event.session_id) as listener:
        await asyncio.to_thread(server.stop)
        await log.wait_for(names.CHANNEL_LOST)
        assert not subscriber.connected
        async with subscriber.listen(event.session_id) as registered_during_the_outage:
            await asyncio.to_thread(server.start)
            assert await heard(registered_during_the_outage) == [RECONNECTED]
            assert await heard(listener) == [RECONNECTED]
        await publish(server.url, event)
        assert await heard(listener) == [event]


async def test_an_outage_is_logged_once_however_often_it_tries_to_connect(log: Log) -> None:
    attempts = asyncio.Semaphore(0)

    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        attempts.release()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as no_redis:
        port = no_redis.sockets[0].getsockname()[1]
        subscriber = Subscriber(f"redis://127.0.0.1:{port}/0")
        await subscriber.start(timeout_seconds=0.01)
        for _ in range(4):
            await attempts.acquire()
        await subscriber.close()
    assert [line["event"] for line in log.lines] == [names.CHANNEL_LOST]


async def test_a_connection_cut_by_the_server_is_a_gap_too(server: EmbeddedRedis, operator: Operator) -> None:
    (event,) = new_session()
    async with subscribing(server.url) as subscriber, subscriber.listen(event.session_id) as listener:
        for _ in range(3):
            assert operator.kill_connections() == 1
            assert await heard(listener) == [RECONNECTED]
        await publish(server.url, event)
        assert await heard(listener) == [event]


async def test_it_starts_while_redis_is_down_and_connects_when_redis_comes(server: EmbeddedRedis) -> None:
    (event,) = new_session()
    url = server.url
    server.stop()
    subscriber = Subscriber(url)
    await subscriber.start(timeout_seconds=0.05)
    connected = [subscriber.connected]
    async with subscriber.listen(event.session_id) as listener:
        await asyncio.to_thread(server.start)
        await subscriber.start(timeout_seconds=10)
        connected.append(subscriber.connected)
        assert connected == [False, True]
        await publish(url, event)
        assert await heard(listener, 2) == [RECONNECTED, event]
    await subscriber.close()


async def test_a_connection_that_died_silently_is_noticed(server: EmbeddedRedis, log: Log) -> None:
    async with subscribing(server.url, silence_seconds=0.05) as subscriber, subscriber.listen(uuid4()) as listener:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            lost = await log.wait_for(names.CHANNEL_LOST)
            assert "no sign of life for 0.1 s" in lost["error"]
            assert not subscriber.connected
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await heard(listener) == [RECONNECTED]


async def test_a_quiet_channel_is_no_lost_connection(server: EmbeddedRedis, operator: Operator, log: Log) -> None:
    async with subscribing(server.url, silence_seconds=0.02):
        while await asyncio.to_thread(operator.calls, "ping") < 5:
            pass
    assert [line["event"] for line in log.lines] == [names.CHANNEL_CONNECTED]


async def test_a_defect_costs_a_reconnect_and_not_the_subscription(
    server: EmbeddedRedis, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event,) = new_session()
    async with subscribing(server.url) as subscriber, subscriber.listen(event.session_id) as listener:
        with monkeypatch.context() as patch:
            patch.setattr(listener, "offer", None)
            await publish(server.url, event)
            assert await heard(listener) == [RECONNECTED]
        await publish(server.url, event)
        assert await heard(listener) == [event]
    assert log.named(names.CHANNEL_LOST)[0]["exc_info"]


def test_a_url_that_is_none_of_redis_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="redis://"):
        Subscriber("http://127.0.0.1:6379")
