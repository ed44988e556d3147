"""The HTTP request tool against a real server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.integration.engine.talk import ANTHROPIC
from tests.integration.engine.tool_calls import call
from tests.web_server import web_server
from worker.engine.tools.http_request import MAX_TEXT_CHARACTERS, http_request_tool
from worker.engine.web.access import WebAccess
from worker.engine.web.client import WebClient
from worker.errors import TurnWorkerError
from worker.workflow.tool_definition import HttpRequestDefinition
from worker.workflow.web_address import AllowedHosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.integration.engine.talk import Talk
    from tests.web_server import WebServer
    from worker.engine.tools.tool import Tool

    Make = Callable[..., Tool]

TOKEN = "b3arer-s3cret"


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as server:
        yield server


@pytest.fixture
async def access(server: WebServer) -> AsyncIterator[WebAccess]:
    async def credentials(name: str) -> Mapping[str, str]:
        if name != "crm":
            raise TurnWorkerError(f"There is no credential {name!r}.")
        return {"Authorization": f"Bearer {TOKEN}"}

    client = WebClient()
    yield WebAccess(client, credentials, AllowedHosts.of([server.host]))
    await client.close()


@pytest.fixture
def make(server: WebServer, access: WebAccess) -> Make:
    """A tool that goes to a path of the server."""

    def make(path: str = "/", **fields: Any) -> Tool:
        values = {"type": "http_request", "name": "look_up", "description": "Look up.", "url": f"{server.url}{path}"}
        return http_request_tool(HttpRequestDefinition.model_validate({**values, **fields}), access)

    return make


def parameter(name: str, kind: str = "string", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **fields}


async def test_templates_are_filled_in_everywhere_and_values_keep_their_types(make: Make, server: WebServer) -> None:
    server.answer("/patients/a/b c", {"found": True})
    tool = make(
        "/patients/{{ id }}?day={{ arguments.day }}",
        method="POST",
        headers={"X-Name": "{{ name }}", "X-When": "{{ current_time }}"},
        query={"age": "{{ gathered_context.age }}", "missing": "{{ nobody | none }}"},
        body={
            "slots": "{{ arguments.slots }}",
            "note": "for {{ name }}, {{ arguments.slots }} slots",
            "left": "{{ x }}",
        },
        parameters=[parameter("day"), parameter("slots", "integer")],
    )
    result = await call(tool, {"day": "Mon & Tue", "slots": "3"})
    assert result.result == {"status": "success", "status_code": 200, "data": {"found": True}}
    (received,) = server.received
    assert received.query == {"day": "Mon & Tue", "age": "36", "missing": "none"}
    assert received.headers["X-Name"] == "Ada"
    assert received.headers["X-When"] == "2026-11-24 09:30:00 UTC"
    assert json.loads(received.body) == {"slots": 3, "note": "for Ada, 3 slots", "left": None}


async def test_arguments_that_no_template_names_go_into_the_query_of_a_get_and_the_body_of_a_post(
    make: Make, server: WebServer
) -> None:
    server.answer("/", {})
    fields = {
        "parameters": [parameter("day"), parameter("urgent", "boolean"), parameter("note", required=False)],
        "presets": {"age": "{{ gathered_context.age }}", "about": "{{ arguments.day }}"},
    }
    for method in ("GET", "POST"):
        await call(make("/?fixed=1", method=method, **fields), {"day": "Monday", "urgent": True})
    get, post = server.received
    assert get.query == {"fixed": "1", "day": "Monday", "urgent": "true", "age": "36", "about": "Monday"}
    assert get.body == b""
    assert json.loads(post.body) == {"day": "Monday", "urgent": True, "age": 36, "about": "Monday"}
    assert post.query == {"fixed": "1"}


async def test_arguments_that_do_not_fit_are_told_to_the_model_and_nothing_is_sent(
    make: Make, server: WebServer
) -> None:
    tool = make(parameters=[parameter("day"), parameter("slots", "integer")])
    result: Any = (await call(tool, {"slots": "many"})).result
    assert result["status"] == "error"
    assert "`day` is missing" in result["message"]
    assert "`slots` must be of type integer" in result["message"]
    assert server.received == []
    assert list(tool.properties) == list(tool.required) == ["day", "slots"]


async def test_a_value_cannot_lead_the_request_elsewhere(make: Make, server: WebServer) -> None:
    tool = make("/files/{{ arguments.name }}", parameters=[parameter("name")])
    result: Any = (await call(tool, {"name": ".."})).result
    assert result["status"] == "error"
    assert server.received == []


async def test_a_value_cannot_add_a_header(make: Make, server: WebServer) -> None:
    tool = make(headers={"X-Name": "{{ arguments.name }}"}, parameters=[parameter("name")])
    result: Any = (await call(tool, {"name": "Ada\r\nX-Admin: 1"})).result
    assert result["status"] == "error"
    assert server.received == []


async def test_what_changes_something_carries_the_calls_idempotency_key(make: Make, server: WebServer) -> None:
    server.answer("/", {})
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        await call(make(method=method), idempotency_key="turn-7/1")
    keys = [received.headers.get("Idempotency-Key") for received in server.received]
    assert keys == [None, *["turn-7/1"] * 4]


async def test_a_credential_is_sent_and_shown_nowhere(make: Make, server: WebServer) -> None:
    server.answer("/", {"ok": True})
    result = await call(make(credential="crm"))
    assert server.received[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(result)


async def test_a_credential_that_is_not_there_is_an_error_the_model_sees(make: Make, server: WebServer) -> None:
    result: Any = (await call(make(credential="gone"))).result
    assert result == {"status": "error", "message": "There is no credential 'gone'."}
    assert server.received == []


async def test_the_turns_trace_goes_on_in_the_request(make: Make, server: WebServer) -> None:
    server.answer("/", {})
    context = SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        await call(make())
    await call(make())
    traced, untraced = server.received
    assert traced.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert "traceparent" not in untraced.headers


async def test_an_error_status_is_an_error_with_what_the_server_said(make: Make, server: WebServer) -> None:
    server.answer("/", {"why": "no such patient"}, status=404)
    result = await call(make())
    assert result.result == {"status": "error", "status_code": 404, "data": {"why": "no such patient"}}


@pytest.mark.parametrize("text", ["plain text", '{"broken": ', '{"a": NaN}', "[" * 100_000, ""])
async def test_what_is_not_json_is_text(make: Make, server: WebServer, text: str) -> None:
    server.answer("/", text)
    result: Any = (await call(make(max_response_bytes=1_000_000))).result
    assert result["data"] in {text, f"{text[:MAX_TEXT_CHARACTERS]}\n[Cut off here: 84,000 more characters.]"}


async def test_an_answer_that_is_too_large_is_an_error(make: Make, server: WebServer) -> None:
    server.answer("/", "x" * 1001)
    result: Any = (await call(make(max_response_bytes=1000))).result
    assert result["status"] == "error"
    assert "more than 1,000 bytes" in result["message"]


async def test_a_private_address_is_refused_with_what_to_do(access: WebAccess) -> None:
    fields = {"type": "http_request", "name": "x", "description": "X.", "url": "http://169.254.169.254/latest"}
    result: Any = (await call(http_request_tool(HttpRequestDefinition.model_validate(fields), access))).result
    assert result["status"] == "error"
    assert "allowed hosts" in result["message"]


async def test_a_request_that_may_be_sent_twice_is_retried_until_it_succeeds(make: Make, server: WebServer) -> None:
    server.answer("/", web.Response(status=503), web.Response(status=429), {"ok": True})
    result: Any = (await call(make(retries=2))).result
    assert (result["status"], len(server.received)) == ("success", 3)


async def test_retries_are_bounded_and_the_last_answer_is_the_result(make: Make, server: WebServer) -> None:
    server.answer("/", {"busy": True}, status=503)
    result: Any = (await call(make(retries=1))).result
    assert result == {"status": "error", "status_code": 503, "data": {"busy": True}}
    assert len(server.received) == 2


async def test_other_errors_are_not_retried(make: Make, server: WebServer) -> None:
    server.answer("/", {}, status=500)
    await call(make(retries=3))
    assert len(server.received) == 1


async def test_a_post_is_retried_only_where_the_server_honours_its_key_and_then_with_the_same_one(
    make: Make, server: WebServer
) -> None:
    server.answer("/", {}, status=503)
    await call(make(method="POST"))
    assert len(server.received) == 1
    await call(make(method="POST", retries=1, accepts_idempotency_key=True))
    assert [received.headers["Idempotency-Key"] for received in server.received] == ["key-1"] * 3


async def test_a_request_without_an_answer_is_retried(make: Make, server: WebServer) -> None:
    async def first_hang_up(request: web.Request) -> web.StreamResponse:
        if len(server.received) == 1:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"ok": True})

    server.handlers["/"] = first_hang_up
    result: Any = (await call(make(retries=1))).result
    assert (result["status"], len(server.received)) == ("success", 2)


async def test_a_server_that_asks_for_more_patience_than_a_turn_has_is_not_waited_for(
    make: Make, server: WebServer
) -> None:
    server.answer("/", {}, status=429, headers={"Retry-After": "3600"})
    result: Any = (await call(make(retries=5))).result
    assert (result["status_code"], len(server.received)) == (429, 1)


async def test_a_server_that_does_not_answer_is_an_error_within_its_time_limit(make: Make, server: WebServer) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.handlers["/"] = never
    result: Any = (await call(make(timeout_seconds=0.2))).result
    assert "within 0.2 seconds" in result["message"]


async def test_the_tools_own_message_is_said_with_its_templates_filled_in(make: Make, server: WebServer) -> None:
    server.answer("/", {})
    assert (await call(make(message="One moment, {{ name }}."))).message == "One moment, Ada."


@ANTHROPIC
async def test_a_conversation_calls_it_and_goes_on_with_its_result(talk: Talk, make: Make, server: WebServer) -> None:
    server.answer("/", {"slot": "Friday, 10:00"})
    talk.tools.by_node["book"] = [make(parameters=[parameter("day")], message="One moment.")]
    talk.at("book")
    talk.script(
        {"when": {"after_tool_result": "look_up"}, "reply": "Found: {tool_result}"},
        {"reply": [{"tool": "look_up", "input": {"day": "Friday"}}]},
    )
    outcome = await talk.turn("Is there anything on Friday?")
    assert server.received[0].query == {"day": "Friday"}
    assert outcome.assistant_text is not None
    assert outcome.assistant_text.startswith("One moment.\n\nFound: ")
    assert "Friday, 10:00" in outcome.assistant_text
