"""The system under test: real processes on real servers, which they reach through proxies that the adversary holds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.proxy import CuttingProxy
from tests.system import System
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.redis import EmbeddedRedis
from worker.storage.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LEASE_SECONDS: Final = 10.0

_SETTINGS: Final[dict[str, Any]] = {
    "lease_seconds": LEASE_SECONDS,
    # Faults come far more often than in life, so that budgets which end a turn would end turns that are none to blame.
    "max_provider_failures": 50,
    "max_worker_losses": 50,
    "retry_base_seconds": 0.1,
    "retry_max_seconds": 2,
    "shutdown_grace_seconds": 2,
}


class ChaosSystem(System):
    """A system whose processes reach PostgreSQL and Redis through proxies, while the harness reaches them directly."""

    lease_seconds = LEASE_SECONDS

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, proxies: tuple[CuttingProxy, CuttingProxy]) -> None:
        super().__init__(folder, postgres, postgres.url, **_SETTINGS)
        self.postgres_proxy, self.redis_proxy = proxies

    def environment(self, **settings: object) -> dict[str, str]:
        """As of any system, with the proxies in place of the servers."""
        proxied = {"DATABASE_URL": self.postgres_proxy.url, "REDIS_URL": self.redis_proxy.url}
        return {**super().environment(**settings), **proxied}


@asynccontextmanager
async def running_system(folder: Path) -> AsyncIterator[ChaosSystem]:
    """A whole system with the default lease and two workers."""
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedRedis(folder / "redis") as redis:
        migrate(postgres.url)
        async with CuttingProxy(postgres.url) as to_postgres, CuttingProxy(redis.url) as to_redis:
            system = ChaosSystem(folder / "redis", postgres, (to_postgres, to_redis))
            system.redis = redis
            # In a thread: the proxies, through which its processes look for their servers, are on this loop.
            await asyncio.to_thread(system.__enter__)
            try:
                yield system
            finally:
                await asyncio.to_thread(system.__exit__)
