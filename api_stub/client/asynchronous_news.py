"""The news of a session, from Redis, for programs on asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from api_stub.client.errors import RedisUnreachable
from api_stub.client.flows import backoff
from api_stub.client.news import CONNECT_SECONDS, REREAD_SECONDS

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub


class AsyncNews:
    """A subscription to a pattern of channels, which connects again by itself."""

    def __init__(self, redis_url: str, pattern: str) -> None:
        """Prepare to subscribe."""
        self._pattern = pattern
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=CONNECT_SECONDS,
            health_check_interval=REREAD_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._failures = 0
        self._subscription: PubSub | None = None

    async def open(self) -> None:
        """Subscribe.

        Raises:
            RedisUnreachable: when that fails.
        """
        try:
            self._subscription = await self._subscribe()
        except RedisError as error:
            raise RedisUnreachable(f"Redis cannot be subscribed to: {error}.") from error

    async def get(self) -> bytes | None:
        """The next message; None when there was none for a while, or some may have been missed."""
        try:
            if self._subscription is None:
                self._subscription = await self._subscribe()
                return None
            message = await self._subscription.get_message(timeout=REREAD_SECONDS)
        except RedisError:
            await self._unsubscribe()
            self._failures += 1
            await asyncio.sleep(backoff(self._failures))
            return None
        self._failures = 0
        return None if message is None else message["data"]

    async def aclose(self) -> None:
        """End the subscription."""
        await self._unsubscribe()
        await self._redis.aclose()

    async def _subscribe(self) -> PubSub:
        subscription: PubSub = self._redis.pubsub()
        await subscription.psubscribe(self._pattern)
        if await subscription.get_message(timeout=CONNECT_SECONDS) is None:
            raise RedisConnectionError("it did not confirm the subscription")
        return subscription

    async def _unsubscribe(self) -> None:
        if self._subscription is not None:
            await self._subscription.aclose()  # type: ignore[no-untyped-call] # redis-py does not say
            self._subscription = None
