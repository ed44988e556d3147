"""Turns over HTTP: enqueued, read, listed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from tests.api import Bell, Tenant


async def test_a_turn_is_accepted_with_202_and_a_location_that_shows_it_as_it_was_answered(api: Tenant) -> None:
    session = await api.session()
    body = {"text": "  Hello there. ", "external_id": "mine", "metadata": {"a": [1, None]}}
    accepted = await api.http.post(f"/v1/sessions/{session['id']}/turns", json=body)
    assert accepted.status_code == 202
    turn = accepted.json()
    assert turn == await api.get(accepted.headers["Location"])
    assert (turn["status"], turn["position"], turn["revision"]) == ("pending", 1, session["revision"] + 1)
    assert turn["user_messages"] == ["Hello there."]
    assert (turn["external_id"], turn["metadata"]) == ("mine", {"a": [1, None]})


async def test_an_accepted_turn_rings_the_doorbell_only_at_the_head_of_its_line(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    first = await api.turn(session["id"])
    await api.turn(session["id"])
    await api.services.dispatch.drain()
    assert {str(turn_id) for turn_id in bell.rung} == {first["id"]}


async def test_several_messages_make_one_turn(api: Tenant) -> None:
    session = await api.session()
    body = {"messages": ["First.", " Second. "]}
    turn = await api.made(api.http.post(f"/v1/sessions/{session['id']}/turns", json=body))
    assert turn["user_messages"] == ["First.", "Second."]


async def test_a_completed_turn_shows_its_answer_and_what_it_used(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.answer(turn, assistant_text="Good day.")
    shown = await api.get(f"/v1/turns/{turn['id']}")
    assert (shown["status"], shown["assistant_text"], shown["attempt"]) == ("completed", "Good day.", 1)
    assert shown["error"] is None
    assert shown["created_at"] <= shown["first_claimed_at"] == shown["claimed_at"] <= shown["ended_at"]
    assert shown["revision"] == turn["revision"] + 1


async def test_a_turn_sums_what_all_its_attempts_used_by_processor_and_model(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    for attempt, call, model in ((1, 1, "m"), (1, 2, "m"), (2, 1, "n")):
        await api.world.execute(
            "INSERT INTO usage_entries (organization_id, turn_id, attempt, call, processor, model, prompt_tokens,"
            " completion_tokens, total_tokens) VALUES (:o, :t, :a, :c, 'P', :m, 10, 1, 11)",
            o=api.world.organization_id,
            t=turn["id"],
            a=attempt,
            c=call,
            m=model,
        )
    llm = (await api.get(f"/v1/turns/{turn['id']}"))["usage"]["llm"]
    assert llm["P|||m"]["prompt_tokens"] == 20
    assert llm["P|||m"]["total_tokens"] == 22
    assert llm["P|||n"]["completion_tokens"] == 1


async def test_a_failed_turn_says_what_happened_and_whether_it_may_be_retried(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.world.fail(await api.claim(turn))
    shown = await api.get(f"/v1/turns/{turn['id']}")
    assert shown["status"] == "failed"
    assert shown["error"] == {"code": "llm_overloaded", "message": "Try later.", "retryable": True}


async def test_a_turn_that_waits_for_another_attempt_shows_how_often_it_was_tried_and_why_that_failed(
    api: Tenant,
) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.world.retry(await api.claim(turn), delay_seconds=60)
    shown = await api.get(f"/v1/turns/{turn['id']}")
    assert (shown["status"], shown["attempt"]) == ("pending", 1)
    assert shown["error"]["code"] == "llm_overloaded"
    assert shown["available_at"] > shown["claimed_at"]


async def test_turns_are_listed_in_the_order_of_their_line_page_by_page(api: Tenant) -> None:
    session = await api.session()
    turns = [await api.turn(session["id"], f"Message {number}.") for number in range(5)]
    path = f"/v1/sessions/{session['id']}/turns"
    first = await api.get(path, limit=3)
    assert first["revision"] == 5
    second = await api.get(path, limit=3, cursor=first["next_cursor"])
    assert [turn["id"] for turn in first["data"] + second["data"]] == [turn["id"] for turn in turns]
    assert second["next_cursor"] is None


async def test_a_session_without_turns_has_an_empty_list_of_them(api: Tenant) -> None:
    session = await api.session()
    listed = await api.get(f"/v1/sessions/{session['id']}/turns")
    assert (listed["data"], listed["next_cursor"], listed["revision"]) == ([], None, session["revision"])


async def test_a_turn_on_an_ended_session_is_refused(api: Tenant) -> None:
    session = await api.session()
    await api.made(api.http.post(f"/v1/sessions/{session['id']}/end", json={"reason": "done"}))
    refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "Hi."})
    assert (refused.status_code, refused.json()["code"]) == (409, "session_ended")
    assert "done" in refused.json()["detail"]


async def test_a_turn_that_expects_another_revision_is_refused_with_both_numbers(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    refused = await api.http.post(path, json={"text": "Hi.", "expected_revision": 7})
    assert (refused.status_code, refused.json()["code"]) == (409, "revision_conflict")
    assert (refused.json()["expected_revision"], refused.json()["actual_revision"]) == (7, session["revision"])
    accepted = await api.http.post(path, json={"text": "Hi.", "expected_revision": session["revision"]})
    assert accepted.status_code == 202


@pytest.mark.parametrize("path", ["/v1/turns/{}", "/v1/turns/{}/events", "/v1/sessions/{}/turns"])
async def test_what_does_not_exist_is_not_found(api: Tenant, path: str) -> None:
    missing = await api.http.get(path.format(uuid4()))
    assert missing.status_code == 404
    assert missing.json()["code"] in {"turn_not_found", "session_not_found"}


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def test_a_turn_may_show_images_by_address_and_as_they_are(api: Tenant) -> None:
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    as_it_is = {"media_type": "image/png", "data": PIXEL}
    turn = await api.made(
        api.http.post(
            path,
            json={"messages": ["Look.", {"text": "Which?", "images": [{"url": "https://a.example/b.png"}, as_it_is]}]},
        )
    )
    assert turn["user_messages"] == ["Look.", "Which?"]
    assert turn["user_images"] == [
        {"message": 1, "url": "https://a.example/b.png"},
        {"message": 1, "media_type": "image/png", "bytes": 70},
    ]
    assert turn == await api.get(f"/v1/turns/{turn['id']}")
    silent = await api.made(api.http.post(path, json={"images": [as_it_is]}))
    assert (silent["user_messages"], len(silent["user_images"])) == ([""], 1)


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"url": "file:///etc/passwd"},
        {"url": "https://a.example/b.png", "data": PIXEL, "media_type": "image/png"},
        {"data": PIXEL},
        {"media_type": "image/png", "data": ""},
        {"media_type": "image/png", "data": "not base64"},
        {"media_type": "image/tiff", "data": PIXEL},
    ],
)
async def test_what_is_no_image_is_refused_where_it_stands(api: Tenant, image: dict[str, str]) -> None:
    session = await api.session()
    refused = await api.http.post(
        f"/v1/sessions/{session['id']}/turns", json={"messages": [{"text": "Look.", "images": [image]}]}
    )
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["pointer"].startswith("/messages/0/images/0")
