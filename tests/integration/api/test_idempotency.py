"""Repeating a POST: answered the same, done once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import definition

if TYPE_CHECKING:
    import httpx

    from tests.api import Bell, Tenant


async def post(api: Tenant, path: str, body: Any, key: str = "key-1") -> httpx.Response:
    return await api.http.post(path, json=body, headers={"Idempotency-Key": key})


async def test_a_repeated_enqueue_is_answered_the_same_and_enqueues_once(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    first = await post(api, path, {"text": "Hi."})
    await api.answer(first.json())
    second = await post(api, path, {"text": "Hi."})
    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len((await api.get(path))["data"]) == 1
    await api.services.dispatch.drain()
    assert len(bell.rung) == 1


async def test_everything_that_is_created_can_be_repeated(api: Tenant) -> None:
    sessions = f"/v1/workflows/{api.world.workflow_id}/sessions"
    session = await api.session()
    for path, body in [
        ("/v1/workflows", {"name": "W", "definition": definition()}),
        (sessions, {}),
        (f"/v1/sessions/{session['id']}/turns", {"text": "Hi."}),
        (f"/v1/sessions/{session['id']}/end", {"expected_revision": 1}),
    ]:
        first, second = await post(api, path, body), await post(api, path, body)
        assert first.is_success
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert second.headers["Idempotency-Replayed"] == "true"


async def test_the_same_key_with_another_body_is_refused(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    await post(api, path, {"text": "Hi."})
    refused = await post(api, path, {"text": "Bye."})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_key_belongs_to_one_organization_and_one_path(api: Tenant, other: Tenant) -> None:
    one, two = await api.session(), await api.session()
    workflow = {"name": "W", "definition": definition()}
    answers = [
        await post(api, f"/v1/sessions/{one['id']}/turns", {"text": "Hi."}),
        await post(api, f"/v1/sessions/{two['id']}/turns", {"text": "Hi."}),
        await post(api, "/v1/workflows", workflow),
        await post(other, "/v1/workflows", workflow),
    ]
    assert len({answer.json()["id"] for answer in answers}) == 4


async def test_a_key_belongs_to_a_path_however_its_id_is_spelled(api: Tenant) -> None:
    session = await api.session()
    spellings = [session["id"], session["id"].upper(), session["id"].replace("-", "")]
    answers = [await post(api, f"/v1/sessions/{spelling}/turns", {"text": "Hi."}) for spelling in spellings]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_tool_that_was_stored_is_answered_for_again_although_its_credential_is_gone(api: Tenant) -> None:
    credential = {"name": "crm", "credential": {"kind": "bearer", "token": "t0ken"}}
    await api.made(api.http.post("/v1/credentials", json=credential))
    request = {"type": "http_request", "name": "look", "description": "Look.", "url": "https://crm.example"}
    tool = {"definition": {**request, "credential": "crm"}}
    first = await post(api, "/v1/tools", tool)
    assert first.status_code == 201
    assert (await api.http.delete("/v1/credentials/crm")).is_success
    assert (await post(api, "/v1/tools", tool)).json() == first.json()


async def test_only_successes_are_kept(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    body = {"text": "Hi.", "expected_revision": 1}
    assert (await post(api, path, body)).status_code == 409
    await api.turn(session["id"])
    assert (await post(api, path, body)).status_code == 202


async def test_a_repetition_is_answered_the_same_even_if_it_could_not_be_done_any_more(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    body = {"text": "Hi.", "expected_revision": 0}
    first = await post(api, path, body)
    assert (await post(api, path, body)).content == first.content
    await api.made(api.http.post(f"/v1/sessions/{session['id']}/end"))
    assert (await post(api, path, body)).content == first.content
    reused = await post(api, path, {"text": "Bye."})
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_repetition_leaves_no_trace(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    await post(api, path, {"text": "Hi."})
    before = await api.get(f"/v1/sessions/{session['id']}")
    await post(api, path, {"text": "Hi."})
    assert await api.get(f"/v1/sessions/{session['id']}") == before
    assert len((await api.get(f"/v1/sessions/{session['id']}/events"))["data"]) == 1


async def test_of_concurrent_duplicates_one_is_done_and_the_others_wait_for_its_answer(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    answers = await asyncio.gather(*(post(api, path, {"text": "Hi."}) for _ in range(3)))
    assert len({answer.content for answer in answers}) == 1
    assert sorted(answer.headers.get("Idempotency-Replayed", "") for answer in answers) == ["", "true", "true"]
    assert len((await api.get(path))["data"]) == 1


async def test_a_key_is_as_good_as_new_after_a_day(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    first = await post(api, path, {"text": "Hi."})
    await api.world.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
    second = await post(api, path, {"text": "Something else."})
    assert second.json()["id"] != first.json()["id"]
    third = await post(api, path, {"text": "Something else."})
    assert third.content == second.content


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "\u00e4"])
async def test_a_key_that_is_not_acceptable_is_refused_before_anything_is_done(api: Tenant, key: str) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    refused = await api.http.post(path, json={"text": "Hi."}, headers={b"Idempotency-Key": key.encode()})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/Idempotency-Key"
    assert (await api.get(path))["data"] == []
