from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis

from tests.integration.channel.news import ORGANIZATION, new_session
from worker.channel.envelope import Envelope, channel_pattern
from worker.channel.publisher import ChannelUnavailable, Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.client import PubSub

    from tests.integration.channel.news import Operator
    from worker.embedded.redis import EmbeddedRedis


@contextmanager
def subscribed(url: str, pattern: str, *channels: str) -> Iterator[PubSub]:
    """What any program gets that follows a pattern, and single channels, with nothing but a Redis client."""
    with redis.Redis.from_url(url) as client, client.pubsub() as subscription:
        subscription.psubscribe(pattern)
        assert next_message(subscription)["type"] == "psubscribe"
        for channel in channels:
            subscription.subscribe(channel)
            assert next_message(subscription)["type"] == "subscribe"
        yield subscription


@asynccontextmanager
async def publishing(url: str, *, timeout_seconds: float = 2.0) -> AsyncIterator[Publisher]:
    publisher = Publisher(url, timeout_seconds=timeout_seconds)
    try:
        yield publisher
    finally:
        await publisher.close()


def next_message(subscription: PubSub) -> dict[str, Any]:
    message = subscription.get_message(timeout=10)
    assert message
    return dict(message)


def read(subscription: PubSub, count: int) -> list[Envelope]:
    messages = [next_message(subscription) for _ in range(count)]
    events = [Envelope.decode(message["data"]) for message in messages]
    assert [message["channel"].decode() for message in messages] == [event.channel for event in events]
    return events


async def test_published_events_arrive_in_order_on_the_channels_of_their_turns(
    publisher: Publisher, redis_url: str
) -> None:
    events = new_session(turns=20)
    with subscribed(redis_url, "turns.*") as subscription:
        await publisher.publish(events)
        assert read(subscription, 20) == events


async def test_a_redis_user_can_be_held_to_the_channels_of_one_organization(
    publisher: Publisher, redis_url: str
) -> None:
    """By the ACL rule that the AsyncAPI document names."""
    own, foreign = new_session(), new_session(organization_id=uuid4())
    everything_of_it = channel_pattern(ORGANIZATION)
    with redis.Redis.from_url(redis_url) as operator:
        operator.acl_setuser(
            "tenant", enabled=True, passwords=["+secret"], commands=["+psubscribe", "+subscribe"],
            channels=[everything_of_it], reset=True,
        )  # fmt: skip
        try:
            address = urlsplit(redis_url)
            tenant_url = address._replace(netloc=f"tenant:secret@{address.netloc.rpartition('@')[2]}").geturl()
            with subscribed(tenant_url, everything_of_it, own[0].channel) as subscription:
                await publisher.publish([*foreign, *own])
                heard = [next_message(subscription) for _ in range(2)]
                assert [Envelope.decode(message["data"]) for message in heard] == [*own, *own]
            for refused in ("turns.*", channel_pattern(foreign[0].organization_id), foreign[0].channel):
                with pytest.raises(redis.exceptions.NoPermissionError), subscribed(tenant_url, refused):
                    pass
        finally:
            operator.acl_deluser("tenant")


async def test_a_pattern_hears_its_own_organization_or_session_or_turn_and_nothing_else(
    publisher: Publisher, redis_url: str
) -> None:
    first, second = new_session(turns=2), new_session(turns=2)
    foreign = new_session(organization_id=uuid4())
    expected = {
        channel_pattern(): [*first, *second, *foreign],
        channel_pattern(ORGANIZATION): [*first, *second],
        channel_pattern(ORGANIZATION, first[0].session_id): first,
        channel_pattern(ORGANIZATION, second[1].session_id, second[1].turn_id): second[1:],
    }
    for pattern, heard in expected.items():
        with subscribed(redis_url, pattern) as subscription:
            await publisher.publish([*first, *second, *foreign])
            assert read(subscription, len(heard)) == heard
            assert subscription.get_message() is None


async def test_many_events_take_one_round_trip(server: EmbeddedRedis, operator: Operator) -> None:
    async with publishing(server.url) as publisher:
        await publisher.publish(new_session())
        calls, reads = operator.calls("publish"), operator.reads()
        await publisher.publish(new_session(turns=20))
        assert operator.calls("publish") - calls == 20
        # The operator's own two commands, and the publisher's 12 kB.
        assert operator.reads() - reads <= 4


async def test_publishing_nothing_asks_nothing_of_redis() -> None:
    await Publisher("redis://127.0.0.1:1").publish([])


async def test_many_callers_at_once_share_a_few_connections(server: EmbeddedRedis, operator: Operator) -> None:
    async with publishing(server.url) as publisher:
        await asyncio.gather(*(publisher.publish(new_session()) for _ in range(200)))
        connections = operator.connections()
    assert set(connections) == {"turn-worker-publisher"}
    assert len(connections) <= 4
    assert operator.calls("publish") == 200


async def test_a_connection_cut_by_the_server_is_replaced_without_an_error(
    server: EmbeddedRedis, operator: Operator
) -> None:
    async with publishing(server.url) as publisher:
        await publisher.publish(new_session())
        assert operator.kill_connections() == 1
        await publisher.publish(new_session())


async def test_while_redis_is_down_publishing_fails_with_what_to_do_and_afterwards_it_works_again(
    server: EmbeddedRedis,
) -> None:
    url = server.url
    async with publishing(url) as publisher:
        await publisher.publish(new_session())
        server.stop()
        for _ in range(3):
            with pytest.raises(ChannelUnavailable, match="REDIS_URL") as caught:
                await publisher.publish(new_session())
            assert caught.value.retryable
        server.start()
        with subscribed(url, "turns.*") as subscription:
            events = new_session(turns=3)
            await publisher.publish(events)
            assert read(subscription, 3) == events


async def test_a_redis_that_does_not_answer_costs_no_more_than_the_time_limit(server: EmbeddedRedis) -> None:
    async with publishing(server.url, timeout_seconds=0.2) as publisher:
        await publisher.publish(new_session())
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            results = await asyncio.gather(
                *(publisher.publish(new_session()) for _ in range(20)), return_exceptions=True
            )
            assert time.monotonic() - started < 1
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert all(isinstance(result, ChannelUnavailable) for result in results)
        assert "no answer within 0.2 s" in str(results[0])
        await publisher.publish(new_session())


async def test_a_wrong_password_is_reported_without_the_password(server: EmbeddedRedis) -> None:
    url = f"redis://:open-sesame@127.0.0.1:{urlsplit(server.url).port}/0"
    async with publishing(url) as publisher:
        with pytest.raises(ChannelUnavailable, match="password") as caught:
            await publisher.publish(new_session())
    assert "open-sesame" not in str(caught.value)


def test_a_url_that_is_none_of_redis_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="redis://"):
        Publisher("http://127.0.0.1:6379")


def test_its_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ChannelUnavailable("it is gone")))
    assert str(error) == str(ChannelUnavailable("it is gone"))
    assert error.code == "channel_unavailable"
