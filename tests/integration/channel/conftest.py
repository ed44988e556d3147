from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from tests.integration.channel.news import Log, Operator
from worker.channel.publisher import Publisher
from worker.channel.subscriber import Subscriber
from worker.embedded.redis import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis server of the test's own, to stop, freeze and start again."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def operator(server: EmbeddedRedis) -> Iterator[Operator]:
    """An operator of `server`."""
    operator = Operator(server.url)
    yield operator
    operator.close()


@pytest.fixture
async def publisher(redis_url: str) -> AsyncIterator[Publisher]:
    """A publisher to the shared server."""
    publisher = Publisher(redis_url)
    yield publisher
    await publisher.close()


@pytest.fixture
async def subscriber(redis_url: str) -> AsyncIterator[Subscriber]:
    """A subscriber on the shared server, connected."""
    subscriber = Subscriber(redis_url)
    await subscriber.start()
    yield subscriber
    await subscriber.close()


@pytest.fixture
def log() -> Iterator[Log]:
    """Every line that structlog is given during the test."""
    before = structlog.get_config()
    log = Log()
    structlog.configure(processors=[log], cache_logger_on_first_use=False)
    yield log
    structlog.configure(**before)
