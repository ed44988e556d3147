"""The servers a command needs: named by the environment, checked before anything else happens, and explained if missing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import TurnWorkerError
from worker.settings import InvalidSettings
from worker.storage.database import Database
from worker.storage.migrate import SchemaOutdated, schema_revisions
from worker.storage.schema_revision import applied_revision
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import SecretStr
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.settings import Settings

_POSTGRES_SCHEMES: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_REDIS_SECONDS: Final = 5.0


class RedisUnavailable(TurnWorkerError):
    """Redis cannot be reached or refused the login."""

    code = "redis_unavailable"
    retryable = True


def database_url(settings: Settings) -> str:
    """PostgreSQL's address.

    Raises:
        InvalidSettings: DATABASE_URL is not set, or no address of PostgreSQL.
    """
    return _address(
        "DATABASE_URL", settings.database_url, _POSTGRES_SCHEMES, "postgresql://user:password@host/database"
    )


def redis_url(settings: Settings) -> str:
    """Redis's address.

    Raises:
        InvalidSettings: REDIS_URL is not set, or no address of Redis.
    """
    return _address("REDIS_URL", settings.redis_url, _REDIS_SCHEMES, "redis://host:6379/0")


def require_redis(url: str) -> None:
    """Return if Redis answers.

    Raises:
        RedisUnavailable: it does not.
    """
    once = Retry(NoBackoff(), retries=0)
    try:
        with redis.Redis.from_url(
            url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS, retry=once
        ) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        reason = mask_secrets(str(error)).rstrip(".")
        raise RedisUnavailable(f"Redis is not available: {reason}. Check REDIS_URL and the server.") from error


def require_database(url: str) -> None:
    """Return if PostgreSQL answers and has the schema, or a later one, that this program needs.

    Raises:
        DatabaseUnavailable: it does not answer.
        SchemaOutdated: its schema is older than this program needs.
    """

    async def look() -> None:
        async with transaction(url):
            pass

    asyncio.run(look())


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[AsyncConnection]:
    """One transaction on a connection of its own: committed when the block ends, rolled back when it raises.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached or refused the login.
        SchemaOutdated: the database's schema is older than this program needs.
    """
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as connection:
            if trouble := schema_revisions().trouble(await applied_revision(connection)):
                raise SchemaOutdated(trouble)
            yield connection
    finally:
        await database.close()


def _address(variable: str, value: SecretStr | None, schemes: frozenset[str], example: str) -> str:
    if value is None:
        raise InvalidSettings(
            f"{variable} is not set. Set it to the address of a server, such as {example}. "
            "Without a server of your own, `turn-worker up` runs everything on this machine and prints how to go on."
        )
    url = value.get_secret_value()
    if urlsplit(url).scheme not in schemes:
        raise InvalidSettings(f"{variable} is not an address this program understands. It looks like {example}.")
    return url
