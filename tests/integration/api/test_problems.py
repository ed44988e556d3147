"""Errors over HTTP: each a problem that says what is wrong and explains itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from api_stub.app import create_app
from api_stub.problems import CATALOGUE
from tests.api import Bell
from tests.world import definition
from worker.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.api import Tenant

NOBODY = UUID("01a20ae1-24fb-7388-bc43-b5de2ad04e9b")
"""An id that nothing has; a constant, because test processes have to agree on the names of tests."""


def is_problem(response: httpx.Response, code: str) -> bool:
    body = response.json()
    kind = CATALOGUE[code]
    return (
        response.headers["content-type"] == "application/problem+json"
        and response.status_code == body["status"] == kind.status
        and (body["type"], body["title"], body["code"]) == (kind.uri, kind.title, code)
        and bool(body["detail"])
    )


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/turns/", "/problems/none", "/healthz/"])
async def test_an_unknown_path_is_a_problem(api: Tenant, path: str) -> None:
    assert is_problem(await api.http.get(path), "not_found")


async def test_a_method_that_a_path_does_not_know_is_a_problem_that_names_those_it_knows(api: Tenant) -> None:
    refused = await api.http.delete("/v1/sessions")
    assert is_problem(refused, "method_not_allowed")
    assert refused.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"text": "a"} b',
        b"\xff",
        b'{"text": "\\ud83d"}',
        b'{"text": ' + b"[" * 5000,
        b'{"text": ' + b"9" * 5000 + b"}",
    ],
)
async def test_a_body_that_is_not_json_is_a_problem_that_names_the_place(api: Tenant, body: bytes) -> None:
    refused = await api.http.post(f"/v1/sessions/{NOBODY}/turns", content=body)
    assert is_problem(refused, "malformed_json")
    assert "at line 1 column" in refused.json()["detail"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_declared_as_something_else_is_a_problem(api: Tenant, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    refused = await api.http.post(f"/v1/sessions/{NOBODY}/turns", content=b'{"text": "Hi."}', headers=headers)
    assert is_problem(refused, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "application/vnd.acme+json", "APPLICATION/JSON"]
)
async def test_every_way_to_declare_json_is_accepted(api: Tenant, media_type: str) -> None:
    session = await api.session()
    headers = {"Content-Type": media_type}
    accepted = await api.http.post(f"/v1/sessions/{session['id']}/turns", content=b'{"text": "Hi."}', headers=headers)
    assert accepted.status_code == 202


async def _chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1000):
        yield b" " * 1000


async def test_a_body_over_the_limit_is_a_problem_whether_it_says_its_length_or_not(
    settings: Settings, api: Tenant
) -> None:
    path = f"/v1/sessions/{NOBODY}/turns"
    limit = settings.max_body_bytes
    for content in (b" " * (limit + 1), _chunks(limit + 2000)):
        refused = await api.http.post(path, content=content)
        assert is_problem(refused, "body_too_large")
        assert refused.json()["limit_bytes"] == limit
    assert (await api.http.post(path, content=b" " * limit)).status_code == 400


async def test_a_body_that_never_ends_is_refused_at_the_limit(settings: Settings, served: Tenant) -> None:
    path = f"/v1/sessions/{NOBODY}/turns"
    refused = await served.http.post(path, content=_chunks(settings.max_body_bytes + 2000))
    assert is_problem(refused, "body_too_large")
    assert (await served.http.get("/healthz")).status_code == 200


async def test_every_value_that_is_not_accepted_is_named_at_once_with_what_would_be(api: Tenant) -> None:
    body = {"text": " \n ", "metadata": [], "external_id": "", "expected_revision": -1, "tekst": "Hi."}
    refused = await api.http.post(f"/v1/sessions/{NOBODY}/turns", json=body)
    assert is_problem(refused, "invalid_request")
    errors = refused.json()["errors"]
    assert {error["pointer"] for error in errors} == {f"/{name}" for name in body}
    assert all(error["in"] == "body" and error["message"] and error["accepted"] for error in errors)


@pytest.mark.parametrize(
    ("path", "place", "pointer"),
    [
        ("/v1/turns/none", "path", "/turn_id"),
        ("/v1/sessions?limit=0", "query", "/limit"),
        ("/v1/sessions?limit=many", "query", "/limit"),
        ("/v1/sessions?state=open", "query", "/state"),
        (f"/v1/turns/{NOBODY}?wait=-1", "query", "/wait"),
        (f"/v1/turns/{NOBODY}?wait=nan", "query", "/wait"),
        (f"/v1/sessions/{NOBODY}/events?after=-1", "query", "/after"),
        (f"/v1/sessions/{NOBODY}/events?after={2**63}", "query", "/after"),
    ],
)
async def test_a_value_outside_the_body_that_is_not_accepted_is_named(
    api: Tenant, path: str, place: str, pointer: str
) -> None:
    refused = await api.http.get(path)
    assert is_problem(refused, "invalid_request")
    assert [(error["in"], error["pointer"]) for error in refused.json()["errors"]] == [(place, pointer)]


@pytest.mark.parametrize("text", ["", "   ", "\u2003\n", "a\x00b", "x" * 32_001, None, 5])
async def test_a_text_that_is_blank_too_long_or_no_text_is_refused(api: Tenant, text: Any) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    for body in ({"text": text}, {"messages": ["Fine.", text]}):
        assert is_problem(await api.http.post(path, json=body), "invalid_request")
    assert (await api.get(path))["data"] == []


@pytest.mark.parametrize("body", [{}, {"text": "a", "messages": ["b"]}, {"messages": []}, {"messages": ["a"] * 51}, []])
async def test_a_turn_says_something_in_exactly_one_way(api: Tenant, body: Any) -> None:
    session = await api.session()
    refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json=body)
    assert is_problem(refused, "invalid_request")


async def test_any_other_text_comes_back_as_it_was(api: Tenant) -> None:
    session = await api.session()
    text = "\U0001d518 👩‍⚕️ \ufeff \x01 \\u0000 ' \" \u202e"
    turn = await api.turn(session["id"], text, external_id="👩‍⚕️", metadata={"\x00": ["\x00", 1e300, 10**30, None]})
    shown = await api.get(f"/v1/turns/{turn['id']}")
    assert shown["user_messages"] == [text]
    assert (shown["external_id"], shown["metadata"]) == ("👩‍⚕️", {"\x00": ["\x00", 1e300, 10**30, None]})


@pytest.mark.parametrize("external_id", ["a\x00", "a\nb", "x" * 256, 5])
async def test_an_external_id_that_cannot_be_kept_is_refused(api: Tenant, external_id: Any) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}/sessions"
    assert is_problem(await api.http.post(path, json={"external_id": external_id}), "invalid_request")


@pytest.mark.parametrize(("field", "limit"), [("metadata", 16_384), ("initial_context", 262_144)])
async def test_notes_and_contexts_have_a_size(api: Tenant, field: str, limit: int) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}/sessions"
    fitting = {"a": "x" * (limit - len('{"a":""}'))}
    assert (await api.http.post(path, json={field: fitting})).status_code == 201
    refused = await api.http.post(path, json={field: {"a": fitting["a"] + "x"}})
    assert is_problem(refused, "invalid_request")
    assert f"{limit:,}" in refused.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "override",
    [
        "Hi",
        {"type": "text"},
        {"type": "text", "text": " "},
        {"type": "song", "text": "La"},
        {"text": "Hi"},
        {"type": "recording", "recording_id": ""},
        {"type": "recording", "text": "Hi"},
    ],
)
async def test_a_greeting_that_cannot_be_said_is_refused_with_the_form_of_one_that_can(
    api: Tenant, override: Any
) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}/sessions"
    refused = await api.http.post(path, json={"initial_context": {"greeting_override": override}})
    assert is_problem(refused, "invalid_request")
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "/initial_context"
    assert '{"type": "text", "text": "..."}' in error["message"]
    assert '{"type": "recording", "recording_id": "..."}' in error["message"]


async def test_a_name_that_cannot_be_kept_is_refused(api: Tenant) -> None:
    for name in ("", "  ", "a\x00b", "x" * 256):
        body = {"name": name, "definition": definition()}
        assert is_problem(await api.http.post("/v1/workflows", json=body), "invalid_request")


async def test_every_type_explains_itself_at_its_own_address(api: Tenant) -> None:
    del api.http.headers["Authorization"]
    listed = (await api.http.get("/problems")).json()["data"]
    assert {kind["code"] for kind in listed} == set(CATALOGUE)
    for kind in listed:
        explained = (await api.http.get(kind["type"])).json()
        assert explained == kind
        assert explained["explanation"]


async def test_a_defect_is_a_500_without_internals_that_can_be_found_in_the_log(api: Tenant) -> None:
    session = await api.session()
    await api.world.execute("ALTER TABLE turns RENAME COLUMN position TO place")
    with capture_logs() as logged:
        broken = await api.http.get(f"/v1/sessions/{session['id']}/turns")
    assert is_problem(broken, "internal_error")
    assert "position" not in broken.text
    (line,) = [line for line in logged if line["event"] == "request.failed"]
    assert line["instance"] == broken.json()["instance"]
    assert "position" in str(line["exc_info"])


async def test_an_app_without_servers_to_use_is_not_made() -> None:
    with pytest.raises(InvalidSettings, match="DATABASE_URL and REDIS_URL"):
        create_app(Settings(database_url=None, redis_url=SecretStr("redis://x")), Bell())
