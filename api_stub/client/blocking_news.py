"""The news of a session, from Redis, for programs that block."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from api_stub.client.errors import RedisUnreachable
from api_stub.client.flows import backoff
from api_stub.client.news import CONNECT_SECONDS, REREAD_SECONDS

if TYPE_CHECKING:
    from redis.client import PubSub


class News:
    """A subscription to a pattern of channels, which connects again by itself."""

    def __init__(self, redis_url: str, pattern: str) -> None:
        """Subscribe.

        Raises:
            RedisUnreachable: when that fails.
        """
        self._pattern = pattern
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=CONNECT_SECONDS,
            health_check_interval=REREAD_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._failures = 0
        self._subscription: PubSub | None = None
        try:
            self._subscription = self._subscribe()
        except RedisError as error:
            self.close()
            raise RedisUnreachable(f"Redis cannot be subscribed to: {error}.") from error

    def get(self) -> bytes | None:
        """The next message; None when there was none for a while, or some may have been missed."""
        try:
            if self._subscription is None:
                self._subscription = self._subscribe()
                return None
            message = self._subscription.get_message(timeout=REREAD_SECONDS)
        except RedisError:
            self._unsubscribe()
            self._failures += 1
            time.sleep(backoff(self._failures))
            return None
        self._failures = 0
        return None if message is None else message["data"]

    def close(self) -> None:
        """End the subscription."""
        self._unsubscribe()
        self._redis.close()

    def _subscribe(self) -> PubSub:
        subscription: PubSub = self._redis.pubsub()  # type: ignore[no-untyped-call] # redis-py does not say
        subscription.psubscribe(self._pattern)  # type: ignore[no-untyped-call] # redis-py does not say
        if subscription.get_message(timeout=CONNECT_SECONDS) is None:
            raise RedisConnectionError("it did not confirm the subscription")
        return subscription

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
