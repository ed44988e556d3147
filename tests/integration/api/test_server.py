"""The API's socket."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from api_stub.server import AddressUnavailable, ApiServer
from tests.api import Bell, serving

if TYPE_CHECKING:
    from worker.settings import Settings


async def test_a_server_listens_where_it_says(settings: Settings) -> None:
    async with serving(settings) as server, httpx.AsyncClient(base_url=server.url) as http:
        assert (await http.get("/healthz")).status_code == 200


async def test_a_server_that_has_stopped_leaves_its_port_to_others(settings: Settings) -> None:
    async with serving(settings) as server:
        port = httpx.URL(server.url).port
    async with serving(settings.model_copy(update={"port": port})) as another:
        assert another.url == server.url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_one_clear_message(settings: Settings, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable, match=rf"{host}:{port}.*TURN_WORKER_PORT"):
            ApiServer(settings.model_copy(update={"host": host, "port": port}), Bell())


def test_a_host_that_does_not_exist_is_one_clear_message(settings: Settings) -> None:
    with pytest.raises(AddressUnavailable, match=r"nowhere\.invalid"):
        ApiServer(settings.model_copy(update={"host": "nowhere.invalid"}), Bell())
