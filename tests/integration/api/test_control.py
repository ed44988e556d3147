"""Rewind, fork, retry and end over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

if TYPE_CHECKING:
    from tests.api import Bell, Tenant


async def test_a_rewound_session_shows_its_new_head_and_still_lists_every_turn(api: Tenant) -> None:
    session = await api.session()
    turns = [await api.turn(session["id"]) for _ in range(2)]
    for turn in turns:
        await api.answer(turn)
    body = {
        "turn_id": turns[0]["id"],
        "expected_revision": (await api.get(f"/v1/sessions/{session['id']}"))["revision"],
    }
    rewound = await api.made(api.http.post(f"/v1/sessions/{session['id']}/rewind", json=body))
    assert (rewound["head_turn_id"], rewound["revision"]) == (turns[0]["id"], body["expected_revision"] + 1)
    listed = await api.get(f"/v1/sessions/{session['id']}/turns")
    assert [turn["status"] for turn in listed["data"]] == ["completed", "completed"]
    beginning = await api.made(api.http.post(f"/v1/sessions/{session['id']}/rewind", json={"turn_id": None}))
    assert beginning["head_turn_id"] is None


async def test_a_rewind_has_to_say_where_to(api: Tenant) -> None:
    session = await api.session()
    refused = await api.http.post(f"/v1/sessions/{session['id']}/rewind", json={})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/turn_id")


async def test_a_rewind_of_a_busy_session_names_the_turn_it_is_busy_with(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    refused = await api.http.post(f"/v1/sessions/{session['id']}/rewind", json={"turn_id": None})
    assert (refused.status_code, refused.json()["code"], refused.json()["turn_id"]) == (409, "session_busy", turn["id"])
    await api.answer(turn)
    for target, status, code in ((str(uuid4()), 404, "turn_not_found"), (session["id"], 404, "turn_not_found")):
        answer = await api.http.post(f"/v1/sessions/{session['id']}/rewind", json={"turn_id": target})
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_fork_is_a_session_of_its_own_at_the_source_s_head_and_repeating_the_request_makes_no_second(
    api: Tenant,
) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.answer(turn, checkpoint={"version": 1, "current_node_id": "start", "gathered_context": {"a": 1}})
    key = {"Idempotency-Key": "fork"}
    answers = [await api.http.post(f"/v1/sessions/{session['id']}/fork", headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    fork = answers[0].json()
    assert (answers[0].status_code, answers[0].headers["Location"]) == (201, f"/v1/sessions/{fork['id']}")
    assert (fork["forked_from_session_id"], fork["forked_from_turn_id"]) == (session["id"], turn["id"])
    assert (fork["gathered_context"], fork["current_node_id"], fork["revision"]) == ({"a": 1}, "start", 0)
    assert fork == await api.get(answers[0].headers["Location"])
    assert (await api.get(f"/v1/sessions/{fork['id']}/turns"))["data"] == []


async def test_a_fork_shows_what_it_began_with_until_it_has_a_turn_of_its_own(api: Tenant) -> None:
    session = await api.session()
    checkpoint = {"version": 1, "current_node_id": "start"}
    await api.answer(await api.turn(session["id"]), checkpoint={**checkpoint, "gathered_context": {"a": 1}})
    fork = await api.made(api.http.post(f"/v1/sessions/{session['id']}/fork"))
    for learned in ({"a": 1}, {"a": 1, "b": 2}):
        shown = (await api.get("/v1/sessions"))["data"][0]
        assert (shown["id"], shown["gathered_context"], shown["current_node_id"]) == (fork["id"], learned, "start")
        await api.answer(await api.turn(fork["id"]), checkpoint={**checkpoint, "gathered_context": {"a": 1, "b": 2}})


async def test_a_retry_is_answered_with_the_new_turn_and_rung_for(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    turn = await api.turn(session["id"], "Book it.", metadata={"a": 1})
    await api.made(api.http.post(f"/v1/turns/{turn['id']}/cancel"))
    answer = await api.http.post(f"/v1/turns/{turn['id']}/retry")
    retry = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/turns/{retry['id']}")
    assert (retry["user_messages"], retry["metadata"], retry["position"]) == (["Book it."], {"a": 1}, 2)
    assert (retry["retry_of_turn_id"], retry["status"]) == (turn["id"], "pending")
    await bell.ringing_for(UUID(retry["id"]))
    refused = await api.http.post(f"/v1/turns/{turn['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "turn_not_retryable")
    assert retry["id"] in refused.json()["detail"]


async def test_a_retry_after_the_conversation_has_gone_on_is_refused(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    attempt = await api.claim(turn)
    await api.world.fail(attempt)
    await api.answer(await api.turn(session["id"]))
    refused = await api.http.post(f"/v1/turns/{turn['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "head_moved")


async def test_an_end_says_what_came_of_the_conversation(api: Tenant) -> None:
    session = await api.session()
    body = {"reason": "hung_up", "disposition": "call_back"}
    ended = await api.made(api.http.post(f"/v1/sessions/{session['id']}/end", json=body))
    assert (ended["state"], ended["end_reason"], ended["disposition"]) == ("completed", "hung_up", "call_back")
    again = await api.made(api.http.post(f"/v1/sessions/{session['id']}/end", json={"disposition": "other"}))
    assert again == ended


async def test_an_end_that_waits_is_answered_with_202_until_the_running_turn_is_over(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.claim(turn)
    answer = await api.http.post(f"/v1/sessions/{session['id']}/end", json={"wait": True})
    assert (answer.status_code, answer.json()["state"], answer.json()["end_reason"]) == (
        202,
        "running",
        "ended_by_request",
    )
    refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "One more."})
    assert (refused.status_code, refused.json()["code"]) == (409, "session_ended")
    assert (await api.get(f"/v1/turns/{turn['id']}"))["status"] == "running"


@pytest.mark.parametrize(
    "path", ["sessions/{id}/rewind", "sessions/{id}/fork", "turns/{id}/retry", "turns/{id}/cancel"]
)
async def test_nobody_changes_what_is_not_theirs(api: Tenant, other: Tenant, path: str) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    id_ = session["id"] if path.startswith("sessions") else turn["id"]
    answer = await other.http.post(f"/v1/{path.format(id=id_)}", json={"turn_id": None} if "rewind" in path else {})
    assert answer.status_code == 404
