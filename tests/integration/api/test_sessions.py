"""Sessions over HTTP: created, read, listed, ended."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.world import definition

if TYPE_CHECKING:
    from tests.api import Bell, Tenant


async def test_a_session_in_which_the_agent_speaks_first_comes_with_its_opening_turn(api: Tenant, bell: Bell) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}/sessions"
    created = await api.http.post(
        path, json={"initial_context": {"name": "Ada"}, "external_id": "x", "metadata": {"a": 1}}
    )
    assert created.status_code == 201
    session = created.json()
    opening = session.pop("opening_turn")
    assert session == await api.get(created.headers["Location"])
    assert (session["initial_context"], session["external_id"], session["metadata"]) == ({"name": "Ada"}, "x", {"a": 1})
    assert (session["state"], session["revision"], session["last_sequence"]) == ("running", 1, 1)
    assert opening == await api.get(f"/v1/turns/{opening['id']}")
    assert (opening["opening"], opening["user_messages"], opening["status"]) == (True, [], "pending")
    await api.services.dispatch.drain()
    assert [str(turn_id) for turn_id in bell.rung] == [opening["id"]]


async def test_a_session_needs_no_body_at_all(api: Tenant) -> None:
    created = await api.http.post(f"/v1/workflows/{api.world.workflow_id}/sessions")
    assert created.status_code == 201
    assert created.json()["opening_turn"]["opening"] is True


async def test_a_session_in_which_the_user_speaks_first_waits_for_one(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    assert (session["opening_turn"], session["revision"]) == (None, 0)
    await api.services.dispatch.drain()
    assert bell.rung == []


async def test_a_session_keeps_the_definition_it_was_created_with(api: Tenant) -> None:
    old = await api.session()
    await api.http.put(f"/v1/workflows/{api.world.workflow_id}", json={"definition": definition("Changed.")})
    new = await api.session()
    assert (await api.get(f"/v1/sessions/{old['id']}"))["definition_number"] == 1
    assert new["definition_number"] == 2


async def test_a_session_shows_what_its_conversation_has_learned(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    learned = {"nodes_visited": ["Start"], "day": "Friday"}
    await api.answer(turn, checkpoint={"version": 1, "current_node_id": "start", "gathered_context": learned})
    shown = await api.get(f"/v1/sessions/{session['id']}")
    assert (shown["gathered_context"], shown["current_node_id"]) == (learned, "start")
    assert shown["head_turn_id"] == turn["id"]


async def test_a_session_on_an_unknown_workflow_is_a_404(api: Tenant) -> None:
    missing = await api.http.post(f"/v1/workflows/{uuid4()}/sessions", json={})
    assert (missing.status_code, missing.json()["code"]) == (404, "workflow_not_found")


async def test_sessions_are_listed_newest_first_page_by_page(api: Tenant) -> None:
    made = [(await api.session())["id"] for _ in range(5)]
    listed = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.get("/v1/sessions", limit=2, **cursor)
        listed += [session["id"] for session in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert listed == made[::-1]


async def test_an_external_id_that_no_session_can_have_is_refused(api: Tenant) -> None:
    refused = await api.http.get("/v1/sessions", params={"external_id": "a\x00"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/external_id")


async def test_sessions_are_listed_by_state_workflow_and_external_id(api: Tenant) -> None:
    ended = await api.session(external_id="a")
    await api.made(api.http.post(f"/v1/sessions/{ended['id']}/end"))
    running = await api.session(external_id="a")
    workflow = await api.made(api.http.post("/v1/workflows", json={"name": "W", "definition": definition()}))
    elsewhere = await api.made(api.http.post(f"/v1/workflows/{workflow['id']}/sessions", json={"external_id": "b"}))

    async def ids(**filters: str) -> list[str]:
        return [session["id"] for session in (await api.get("/v1/sessions", **filters))["data"]]

    assert await ids(state="completed") == [ended["id"]]
    assert await ids(external_id="a") == [running["id"], ended["id"]]
    assert await ids(external_id="a", state="running") == [running["id"]]
    assert await ids(workflow_id=workflow["id"]) == [elsewhere["id"]]
    assert await ids(external_id="A") == []


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "WzEsMl0", "MQ", "WyJ4IiwgInkiXQ", "bnVsbA", "WyIyMDI2LTAxLTAxIiwgMV0", "\u00e4"]
)
async def test_a_cursor_that_is_none_is_refused(api: Tenant, cursor: str) -> None:
    refused = await api.http.get("/v1/sessions", params={"cursor": cursor})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/cursor"


async def test_ending_a_session_cancels_what_is_in_its_line(api: Tenant) -> None:
    session = await api.session()
    running, pending = await api.turn(session["id"]), await api.turn(session["id"])
    await api.claim(running)
    ended = await api.made(api.http.post(f"/v1/sessions/{session['id']}/end", json={"reason": "user_left"}))
    assert (ended["state"], ended["end_reason"]) == ("completed", "user_left")
    assert ended == await api.get(f"/v1/sessions/{session['id']}")
    for turn in (running, pending):
        shown = await api.get(f"/v1/turns/{turn['id']}")
        assert (shown["status"], shown["session_state"]) == ("cancelled", "completed")
        assert shown["error"]["code"] == "session_ended"


async def test_ending_a_session_twice_changes_nothing(api: Tenant) -> None:
    session = await api.session()
    first = await api.made(api.http.post(f"/v1/sessions/{session['id']}/end"))
    second = await api.made(api.http.post(f"/v1/sessions/{session['id']}/end", json={"reason": "other"}))
    assert first == second
    assert first["end_reason"] == "ended_by_request"


async def test_ending_a_session_that_has_changed_is_refused_with_both_numbers(api: Tenant) -> None:
    session = await api.session()
    await api.turn(session["id"])
    path = f"/v1/sessions/{session['id']}/end"
    refused = await api.http.post(path, json={"expected_revision": session["revision"]})
    assert refused.status_code == 409
    assert (refused.json()["expected_revision"], refused.json()["actual_revision"]) == (0, 1)
    assert (await api.get(f"/v1/sessions/{session['id']}"))["state"] == "running"
