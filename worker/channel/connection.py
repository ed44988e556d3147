"""How this package talks to Redis: every wait bounded, no retries behind the caller's back, connections with a name."""

from __future__ import annotations

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_SECONDS: Final = 2.0
"""How long connecting, and each answer of Redis, may take."""


def connect(url: str, *, name: str, max_connections: int, retries: int) -> Redis:
    """Make a client; it connects when it is first used, and again whenever its connection was lost.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as `redis.asyncio.Redis.from_url` reads it.
        name: What `CLIENT LIST` shows an operator.
        max_connections: At most so many at once; whoever needs one more waits for up to `TIMEOUT_SECONDS`.
        retries: How often a command whose connection broke is sent again at once.

    Raises:
        ValueError: the URL is none that Redis clients understand.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        client_name=name,
        max_connections=max_connections,
        timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), retries),
    )
    return Redis.from_pool(pool)
