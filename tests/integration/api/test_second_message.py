"""A further message over HTTP: by the request's policy, or by the session's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from tests.api import Bell, Tenant


async def test_the_request_s_policy_counts_before_the_session_s(api: Tenant) -> None:
    session = await api.session(on_busy="reject")
    turn = await api.turn(session["id"], "One.")
    refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "Two."})
    assert (refused.status_code, refused.json()["code"]) == (409, "session_busy")
    assert (refused.json()["turn_id"], refused.json()["turn_status"]) == (turn["id"], "pending")
    accepted = await api.turn(session["id"], "Two.", on_busy="enqueue")
    assert (accepted["position"], accepted["status"]) == (2, "pending")


async def test_an_interrupting_message_shows_whose_place_it_takes_and_is_rung_for(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    turn = await api.turn(session["id"], "One.")
    await api.claim(turn)
    interrupting = await api.turn(session["id"], "Two.", on_busy="interrupt")
    assert (interrupting["user_messages"], interrupting["carries_over_turn_id"]) == (["One.", "Two."], turn["id"])
    assert (await api.get(f"/v1/turns/{turn['id']}"))["error"]["code"] == "interrupted"
    assert interrupting == await api.get(f"/v1/turns/{interrupting['id']}")
    await api.services.dispatch.drain()
    assert bell.rung[-1] == UUID(interrupting["id"])


async def test_merged_messages_are_answered_with_the_turn_that_they_joined_and_repeating_one_adds_nothing(
    api: Tenant,
) -> None:
    session = await api.session(on_busy="merge", merge_window_seconds=60)
    path, key = f"/v1/sessions/{session['id']}/turns", {"Idempotency-Key": "second"}
    first = await api.turn(session["id"], "One.")
    assert first["available_at"] > first["created_at"]
    second, repeated = [await api.http.post(path, json={"text": "Two."}, headers=key) for _ in range(2)]
    assert second.json() == repeated.json()
    assert (second.status_code, second.json()["id"], second.json()["user_messages"]) == (
        202,
        first["id"],
        ["One.", "Two."],
    )
    assert second.headers["Location"] == f"/v1/turns/{first['id']}"
    assert repeated.headers["Idempotency-Replayed"] == "true"


async def test_a_merged_turn_is_rung_for_when_its_window_is_over(api: Tenant, bell: Bell) -> None:
    session = await api.session(on_busy="merge", merge_window_seconds=0.05)
    turn = await api.turn(session["id"], "One.")
    await bell.ringing_for(UUID(turn["id"]))
    assert await api.claim(turn)
