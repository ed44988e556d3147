"""The addresses that requests really go to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from worker.engine.web.client import WebClient, WebRequest
from worker.engine.web.errors import AddressRefused, InvalidWebRequest, RedirectRefused
from worker.workflow.web_address import AllowedHosts, address_problem

if TYPE_CHECKING:
    from tests.web_server import WebServer
    from worker.workflow.web_address import IPAddress


class Names(AbstractResolver):
    """A DNS whose answers a test gives, in turn and the last for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = answers
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        left = self.answers[host.partition(".")[0]]
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family or socket.AF_INET, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


def but_for_the_server(address: IPAddress) -> str | None:
    """Take 127.0.0.1 for a public address, so that a test has one."""
    return None if str(address) == "127.0.0.1" else address_problem(address)


def get(url: str, **changes: Any) -> WebRequest:
    return WebRequest(method="GET", url=url, **changes)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.0.0.2"])
async def test_a_loopback_address_is_refused_however_it_is_written(
    client: WebClient, server: WebServer, host: str
) -> None:
    server.answer("/", "secret")
    with pytest.raises(AddressRefused, match="allowed hosts"):
        await client.send(get(f"http://{host}:{server.port}/"))
    assert server.received == []


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
async def test_a_number_that_system_resolvers_take_for_an_address_leads_nowhere(
    client: WebClient, server: WebServer, host: str
) -> None:
    server.answer("/", "secret")
    with pytest.raises((AddressRefused, InvalidWebRequest)):
        await client.send(get(f"http://{host}:{server.port}/"))
    assert server.received == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "10.0.0.1", "192.168.1.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]
)
async def test_no_connection_to_an_address_that_is_not_public_is_even_begun(client: WebClient, host: str) -> None:
    with pytest.raises(AddressRefused):
        await client.send(get(f"http://{host}/", timeout_seconds=1))


async def test_an_allowed_host_is_reached_by_the_organization_that_allows_it_and_by_no_other(
    client: WebClient, server: WebServer, allowed: AllowedHosts
) -> None:
    server.answer("/", "hello")
    assert (await client.send(get(server.url), allowed)).text == "hello"
    with pytest.raises(AddressRefused):  # although a connection to it is open
        await client.send(get(server.url))
    with pytest.raises(AddressRefused):
        await client.send(get(server.url), AllowedHosts.of(["127.0.0.1:1"]))
    assert len(server.received) == 1


async def test_a_name_that_leads_to_a_private_address_is_refused(server: WebServer) -> None:
    client = WebClient(resolver=Names(rebound=[["127.0.0.1"]]))
    with pytest.raises(AddressRefused, match=r"rebound\.example"):
        await client.send(get(f"http://rebound.example:{server.port}/"))
    await client.close()
    assert server.received == []


async def test_a_name_with_one_private_address_among_public_ones_is_refused(server: WebServer) -> None:
    client = WebClient(resolver=Names(mixed=[["93.184.215.14", "127.0.0.1"]]))
    with pytest.raises(AddressRefused):
        await client.send(get(f"http://mixed.example:{server.port}/", timeout_seconds=1))
    await client.close()


async def test_a_name_is_looked_up_once_and_what_was_judged_is_what_is_connected_to(server: WebServer) -> None:
    """Were it looked up again for the connection, the second answer would lead to where nobody was asked."""
    names = Names(rebinding=[["127.0.0.1"], ["127.0.0.2"]])
    client = WebClient(resolver=names, judge=but_for_the_server)
    server.answer("/", "hello", headers={"Connection": "close"})
    url = f"http://rebinding.example:{server.port}/"
    assert (await client.send(get(url))).text == "hello"
    assert names.asked == 1
    await client.close()


async def test_a_name_that_comes_to_lead_to_a_private_address_is_refused_from_then_on(server: WebServer) -> None:
    client = WebClient(resolver=Names(first=[["127.0.0.1"]], rebinding=[["127.0.0.2"]]), judge=but_for_the_server)
    server.answer("/", "")
    server.handlers["/"] = _redirect(f"http://rebinding.example:{server.port}/again")
    with pytest.raises(AddressRefused, match=r"rebinding\.example"):
        await client.send(get(f"http://first.example:{server.port}/"))
    assert [received.path for received in server.received] == ["/"]
    await client.close()


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2/", "http://localhost/", "http://169.254.169.254/latest/meta-data"]
)
async def test_a_redirect_to_a_private_address_is_refused(
    client: WebClient, server: WebServer, allowed: AllowedHosts, target: str
) -> None:
    server.handlers["/"] = _redirect(target)
    with pytest.raises(AddressRefused):
        await client.send(get(server.url), allowed)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.com/", "http://user:pw@example.com/", "http://["]
)
async def test_a_redirect_to_what_is_not_the_web_is_refused(
    client: WebClient, server: WebServer, allowed: AllowedHosts, target: str
) -> None:
    server.handlers["/"] = _redirect(target)
    with pytest.raises(RedirectRefused) as refused:
        await client.send(get(server.url), allowed)
    assert "pw" not in str(refused.value)


def _redirect(target: str, status: int = 302) -> Any:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": target})

    return handle
