"""What tests against real servers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.world import World
from worker.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to this test's own database."""
    database = Database(database_url, pool_size=8)
    yield database
    await database.close()


@pytest.fixture
async def world(database: Database) -> World:
    """An organization with a workflow. Leases expire by `expire_lease`, not by waiting."""
    return await World.make(database)
