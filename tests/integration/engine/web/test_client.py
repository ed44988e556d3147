"""Requests over real connections: redirects, limits, errors."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.web_server import web_server
from worker.engine.web.client import MAX_REDIRECTS, WebClient, WebRequest
from worker.engine.web.errors import (
    ConnectionFailed,
    InvalidWebRequest,
    RedirectRefused,
    ResponseTooLarge,
    ResponseUnreadable,
    WebError,
    WebTimeout,
)
from worker.workflow.web_address import AllowedHosts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.web_server import WebServer
    from worker.engine.web.client import WebResponse

    Send = Callable[..., Awaitable[WebResponse]]

SECRET = "t0p-s3cret"


@pytest.fixture
def send(client: WebClient, server: WebServer, allowed: AllowedHosts) -> Send:
    """Send to a path of the server."""

    async def send(path: str = "/", method: str = "GET", **changes: Any) -> WebResponse:
        return await client.send(WebRequest(method=method, url=f"{server.url}{path}", **changes), allowed)

    return send


def redirect(target: str, status: int = 302) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": target})

    return handle


async def test_a_request_arrives_as_it_was_sent_and_its_answer_is_read_whole(send: Send, server: WebServer) -> None:
    server.answer("/items", {"ok": True}, status=201)
    response = await send(
        "/items?q=a%26b", "POST", headers={"X-Trace": "1", "Content-Type": "application/json"}, body=b'{"a": 1}'
    )
    assert (response.status, json.loads(response.body), response.ok) == (201, {"ok": True}, True)
    (received,) = server.received
    assert (received.method, received.query, received.body) == ("POST", {"q": "a&b"}, b'{"a": 1}')
    assert received.headers["X-Trace"] == "1"


async def test_an_answer_of_any_status_is_an_answer(send: Send, server: WebServer) -> None:
    server.answer("/", {"why": "no"}, status=503)
    assert ((response := await send()).status, response.ok) == (503, False)


async def test_text_is_read_in_the_charset_it_names_and_damaged_text_is_still_text(
    send: Send, server: WebServer
) -> None:
    server.answer("/latin", "Grüße".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"})
    server.answer("/odd", b"\xff!", headers={"Content-Type": "text/plain; charset=no-such-charset"})
    assert (await send("/latin")).text == "Grüße"
    assert (await send("/odd")).text == "\ufffd!"


async def test_a_redirect_is_followed_and_a_post_becomes_a_get_unless_it_says_otherwise(
    send: Send, server: WebServer
) -> None:
    server.answer("/there", "done")
    server.handlers |= {"/303": redirect("/there", 303), "/307": redirect("there", 307)}
    headers = {"Content-Type": "text/plain", "Authorization": SECRET}
    for path in ("/303", "/307"):
        assert (await send(path, "POST", body=b"hello", headers=headers)).text == "done"
    followed = [received for received in server.received if received.path == "/there"]
    assert [(received.method, received.body) for received in followed] == [("GET", b""), ("POST", b"hello")]
    assert [received.headers["Authorization"] for received in followed] == [SECRET, SECRET]
    assert "Content-Type" not in followed[0].headers


async def test_credentials_and_custom_headers_do_not_follow_a_redirect_to_another_origin(
    client: WebClient, server: WebServer
) -> None:
    async with web_server() as other:
        other.answer("/", "done")
        server.handlers["/"] = redirect(other.url, 307)
        response = await client.send(
            WebRequest(
                method="POST",
                url=server.url,
                headers={"Authorization": SECRET, "X-Key": SECRET, "Cookie": SECRET, "Accept": "text/plain"},
                body=b"hello",
            ),
            AllowedHosts.of([server.host, other.host]),
        )
        assert response.text == "done"
        assert SECRET not in str(other.received[0].headers)
        assert other.received[0].headers["Accept"] == "text/plain"
        assert server.received[0].headers["X-Key"] == SECRET


async def test_redirects_in_a_circle_come_to_an_end(send: Send, server: WebServer) -> None:
    server.handlers["/"] = redirect("/")
    with pytest.raises(RedirectRefused, match="in a row"):
        await send()
    assert len(server.received) == MAX_REDIRECTS + 1


async def test_cookies_are_not_kept_from_one_request_to_the_next(send: Send, server: WebServer) -> None:
    server.answer("/", "", headers={"Set-Cookie": "a=b"})
    await send()
    await send()
    assert "Cookie" not in server.received[1].headers


async def test_an_answer_larger_than_allowed_is_refused_and_one_that_just_fits_is_not(
    send: Send, server: WebServer
) -> None:
    server.answer("/", b"x" * 1000)
    assert len((await send(max_bytes=1000)).body) == 1000
    with pytest.raises(ResponseTooLarge, match="more than 999 bytes"):
        await send(max_bytes=999)


async def test_an_answer_without_an_end_is_refused_as_soon_as_it_is_too_large(send: Send, server: WebServer) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    server.handlers["/"] = endless
    with pytest.raises(ResponseTooLarge):
        await send(max_bytes=1_000_000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_packed_answer_is_unpacked_within_the_same_limit(send: Send, server: WebServer, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    server.answer("/", pack(b"x" * 1000), headers={"Content-Encoding": encoding})
    assert (await send(max_bytes=1000)).body == b"x" * 1000
    with pytest.raises(ResponseTooLarge):
        await send(max_bytes=999)


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_refused_before_it_does(
    send: Send, server: WebServer
) -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    server.answer("/", bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(ResponseTooLarge):
        await send(max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"not gzip at all", "gzip", "damaged"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", "cut off"),
        (b"x", "br", "was not asked for"),
    ],
    ids=["damaged", "cut off", "not asked for"],
)
async def test_an_answer_that_cannot_be_unpacked_says_why(
    send: Send, server: WebServer, body: bytes, encoding: str, reason: str
) -> None:
    server.answer("/", body, headers={"Content-Encoding": encoding})
    with pytest.raises(ResponseUnreadable, match=reason):
        await send()


async def test_a_server_that_does_not_answer_is_given_up_in_time(send: Send, server: WebServer) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.handlers["/"] = never
    with pytest.raises(WebTimeout, match=r"within 0\.2 seconds") as failed:
        await send(timeout_seconds=0.2)
    assert failed.value.retryable


async def test_the_time_limit_holds_for_the_whole_of_an_answer_that_drips(send: Send, server: WebServer) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    server.handlers["/"] = drip
    with pytest.raises(WebTimeout):
        await send(timeout_seconds=0.2)


async def test_the_time_limit_holds_for_all_redirects_together(send: Send, server: WebServer) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        return web.Response(status=302, headers={"Location": "/"})

    server.handlers["/"] = slow
    with pytest.raises(WebTimeout):
        await send(timeout_seconds=0.25)


async def test_a_port_that_nobody_listens_on_is_a_failure_before_anything_was_sent(client: WebClient) -> None:
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1 could not be reached") as failed:
        await client.send(WebRequest(method="POST", url="http://127.0.0.1:1/"), AllowedHosts.of(["127.0.0.1"]))
    assert not failed.value.sent


async def test_a_connection_that_breaks_is_a_failure_after_the_request_was_sent(send: Send, server: WebServer) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    server.handlers["/"] = hang_up
    with pytest.raises(ConnectionFailed, match="the connection broke") as failed:
        await send(method="POST")
    assert failed.value.sent


async def test_a_certificate_that_nobody_trusts_is_refused(client: WebClient, server: WebServer) -> None:
    with pytest.raises(ConnectionFailed, match="TLS failed"):
        await client.send(WebRequest(method="GET", url=f"https://{server.host}/"), AllowedHosts.of([server.host]))


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://example.com/"},
        {"url": "http://"},
        {"url": f"http://user:{SECRET}@example.com/"},
        {"url": "http://127.0.0.1/", "headers": {"X-Key": f"{SECRET}\r\nHost: other"}},
        {"url": "http://127.0.0.1/", "headers": {"host": "other"}},
        {"url": "http://127.0.0.1/", "headers": {"Transfer-Encoding": "chunked"}},
        {"url": "http://127.0.0.1/", "method": "GET / HTTP/1.1\r\nX:"},
    ],
)
async def test_a_request_that_cannot_be_made_says_so_without_its_secrets(
    client: WebClient, changes: dict[str, Any]
) -> None:
    request = WebRequest(**{"method": "GET", **changes})
    with pytest.raises(InvalidWebRequest) as failed:
        await client.send(request, AllowedHosts.of(["127.0.0.1"]))
    assert SECRET not in str(failed.value)


async def test_no_message_holds_the_path_the_query_or_the_headers(send: Send, server: WebServer) -> None:
    server.answer(f"/{SECRET}", b"x" * 100)
    with pytest.raises(WebError) as failed:
        await send(f"/{SECRET}?key={SECRET}", headers={"Authorization": SECRET}, max_bytes=10)
    assert SECRET not in str(failed.value)
    assert server.host in str(failed.value)


async def test_connections_are_reused(send: Send, server: WebServer) -> None:
    peers = set()

    async def remember(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response()

    server.handlers["/"] = remember
    for _ in range(3):
        await send()
    assert len(peers) == 1
