from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import anthropic
import httpx2
import pytest

from tests.integration.scripted_llm.talk import ANTHROPIC_HEADERS, HELLO, MODEL, play, streamed, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anthropic import AsyncAnthropic

    from worker.embedded.scripted_llm import ScriptedLLM


async def note_events(client: AsyncAnthropic, note: Callable[[str], None]) -> None:
    async for event in await client.messages.create(model=MODEL, max_tokens=9, messages=HELLO, stream=True):
        note(event.type)


async def note_text(client: AsyncAnthropic, note: Callable[[str], None]) -> None:
    async with client.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream:
        async for piece in stream.text_stream:
            note(piece)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (402, "billing_error", anthropic.APIStatusError),
        (403, "permission_error", anthropic.PermissionDeniedError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.RequestTooLargeError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (504, "timeout_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.OverloadedError),
    ],
)
async def test_every_status_comes_with_its_error_type(
    llm: ScriptedLLM,
    claude: AsyncAnthropic,
    *,
    stream: bool,
    status: int,
    error_type: str,
    expected: type[anthropic.APIStatusError],
) -> None:
    play(llm, {"error": {"status": status, "message": "Not today"}})

    with pytest.raises(expected) as caught:
        await claude.messages.create(model=MODEL, max_tokens=9, messages=HELLO, stream=stream)

    assert caught.value.status_code == status
    body = caught.value.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert body["error"] == {"type": error_type, "message": "Not today"}
    assert body["request_id"] == caught.value.response.headers["request-id"]


async def test_an_error_can_name_its_own_type(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"error": {"status": 400, "type": "billing_error"}})

    with pytest.raises(anthropic.BadRequestError, match="billing_error"):
        await streamed(claude)


async def test_a_rate_limit_says_when_to_come_back_and_the_sdk_does(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"times": 2, "error": {"status": 429, "retry_after": 0.01}}, {"reply": "Welcome back"})

    with pytest.raises(anthropic.RateLimitError) as caught:
        await streamed(claude)
    assert caught.value.response.headers["retry-after"] == "0.01"

    assert text_of(await streamed(claude.with_options(max_retries=1))) == "Welcome back"
    assert len(llm.requests) == 3


async def test_an_error_in_mid_stream_comes_after_the_text_so_far(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    overloaded = {"status": 529, "message": "Overloaded", "after_chunks": 2}
    play(llm, {"reply": "abcdef", "chunk_characters": 2, "error": overloaded})
    seen: list[str] = []

    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        await note_text(claude, seen.append)

    assert seen == ["ab", "cd"]


async def test_an_error_meant_for_mid_stream_is_a_plain_one_without_a_stream(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(llm, {"reply": "abcdef", "error": {"status": 529, "after_chunks": 2}})

    with pytest.raises(anthropic.OverloadedError):
        await claude.messages.create(model=MODEL, max_tokens=9, messages=HELLO)


@pytest.mark.parametrize("seconds_per_chunk", [0, 0.001])
async def test_a_stream_that_breaks_off_ends_without_a_stop_event(
    llm: ScriptedLLM, claude: AsyncAnthropic, seconds_per_chunk: float
) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 2, "break_after": 2, "seconds_per_chunk": seconds_per_chunk})
    seen: list[str] = []

    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
        await note_events(claude, seen.append)

    assert seen == ["message_start", "content_block_start", "content_block_delta", "content_block_delta"]


async def test_a_stream_that_breaks_off_after_its_last_chunk_is_still_not_complete(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(llm, {"reply": "abc", "break_after": 99})

    with pytest.raises(httpx2.RemoteProtocolError):
        await streamed(claude)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_connection_carries_no_reply_at_all(
    llm: ScriptedLLM, claude: AsyncAnthropic, *, stream: bool
) -> None:
    play(llm, {"reset": True})

    with pytest.raises(anthropic.APIConnectionError):
        await claude.messages.create(model=MODEL, max_tokens=9, messages=HELLO, stream=stream)

    assert [request.rule for request in llm.requests] == ["rules.0"]


def test_a_reset_is_one_for_the_socket_too_and_not_a_mere_close(llm: ScriptedLLM) -> None:
    play(llm, {"reset": True})
    body = json.dumps({"model": MODEL, "max_tokens": 9, "messages": HELLO}).encode()
    headers = {**ANTHROPIC_HEADERS, "host": "localhost", "content-length": str(len(body))}
    head = "".join(["POST /v1/messages HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items())])

    with socket.create_connection(("127.0.0.1", int(llm.base_url.rpartition(":")[2]))) as connection:
        connection.sendall(f"{head}\r\n".encode() + body)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


async def test_a_reply_that_would_break_off_is_a_lost_connection_without_a_stream(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(llm, {"reply": "abc", "break_after": 1})

    with pytest.raises(anthropic.APIConnectionError):
        await claude.messages.create(model=MODEL, max_tokens=9, messages=HELLO)


async def test_the_sdk_recovers_when_the_first_attempts_fail(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"times": 1, "reset": True}, {"times": 1, "error": {"status": 500}}, {"reply": "At last"})

    assert text_of(await streamed(claude.with_options(max_retries=2))) == "At last"


async def test_a_delay_beyond_the_callers_patience_is_a_timeout(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"reply": "Too late", "hold": "for ever"})

    with pytest.raises(anthropic.APITimeoutError):
        await streamed(claude.with_options(timeout=0.1))

    assert (await llm.wait_for_request(lambda request: request.client_gone)).number == 1


async def test_an_unknown_path_is_not_found(llm: ScriptedLLM) -> None:
    async with httpx2.AsyncClient() as client:
        reply = await client.post(f"{llm.base_url}/v1/complete", json={})

    assert reply.status_code == 404
    assert json.loads(reply.content)["error"]["type"] == "not_found_error"
