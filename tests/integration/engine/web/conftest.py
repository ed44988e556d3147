"""A web server and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.web_server import WebServer, web_server
from worker.engine.web.client import WebClient
from worker.workflow.web_address import AllowedHosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[WebClient]:
    client = WebClient()
    yield client
    await client.close()


@pytest.fixture
def allowed(server: WebServer) -> AllowedHosts:
    """The test's server, which is on a loopback address."""
    return AllowedHosts.of([server.host])
