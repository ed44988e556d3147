"""Cancelling over HTTP: at once, for good, and as often as one likes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from worker.storage.attempts import LeaseLost

if TYPE_CHECKING:
    from tests.api import Bell, Tenant


async def test_a_pending_turn_is_cancelled_at_once_with_its_reason(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    cancelled = await api.made(api.http.post(f"/v1/turns/{turn['id']}/cancel", json={"reason": "changed my mind"}))
    assert cancelled == await api.get(f"/v1/turns/{turn['id']}")
    assert (cancelled["status"], cancelled["revision"]) == ("cancelled", turn["revision"] + 1)
    assert cancelled["error"] == {
        "code": "cancelled",
        "message": "The turn was cancelled on request: changed my mind",
        "retryable": True,
    }
    log = await api.get(f"/v1/turns/{turn['id']}/events")
    assert [(event["type"], event["payload"]) for event in log["data"]][-1] == (
        "turn.cancelled",
        {"reason": "changed my mind"},
    )


async def test_after_the_answer_no_write_of_the_running_attempt_lands(api: Tenant) -> None:
    turn = await api.turn((await api.session())["id"])
    attempt = await api.claim(turn)
    cancelled = await api.made(api.http.post(f"/v1/turns/{turn['id']}/cancel"))
    assert cancelled["status"] == "cancelled"
    with pytest.raises(LeaseLost):
        await api.world.complete(attempt)
    assert (await api.get(f"/v1/turns/{turn['id']}")) == cancelled


async def test_cancelling_again_changes_nothing(api: Tenant) -> None:
    turn = await api.turn((await api.session())["id"])
    first = await api.made(api.http.post(f"/v1/turns/{turn['id']}/cancel"))
    assert first == await api.made(api.http.post(f"/v1/turns/{turn['id']}/cancel", json={"reason": "again"}))


async def test_a_turn_that_finished_first_stays_completed_and_the_answer_says_so(api: Tenant) -> None:
    turn = await api.turn((await api.session())["id"])
    await api.answer(turn)
    answer = await api.http.post(f"/v1/turns/{turn['id']}/cancel", json={"expected_revision": 0})
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (200, "completed", None)


async def test_of_a_cancel_and_a_completion_at_the_same_moment_exactly_one_happens(api: Tenant) -> None:
    outcomes = set()
    for _ in range(8):
        turn = await api.turn((await api.session())["id"])
        attempt = await api.claim(turn)
        answer, completed = await asyncio.gather(
            api.http.post(f"/v1/turns/{turn['id']}/cancel"), api.world.complete(attempt), return_exceptions=True
        )
        assert not isinstance(answer, BaseException)
        status = answer.json()["status"]
        assert status == ("cancelled" if isinstance(completed, LeaseLost) else "completed")
        assert (await api.get(f"/v1/turns/{turn['id']}"))["status"] == status
        outcomes.add(status)
    assert outcomes <= {"cancelled", "completed"}


async def test_the_next_in_line_is_rung_after_a_cancel(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    first, second = await api.turn(session["id"]), await api.turn(session["id"])
    await api.services.dispatch.drain()
    bell.rung.clear()
    await api.made(api.http.post(f"/v1/turns/{first['id']}/cancel"))
    await api.services.dispatch.drain()
    assert bell.rung == [UUID(second["id"])]


async def test_a_cancel_with_an_old_revision_is_refused_and_cancels_nothing(api: Tenant) -> None:
    turn = await api.turn((await api.session())["id"])
    refused = await api.http.post(f"/v1/turns/{turn['id']}/cancel", json={"expected_revision": 0})
    assert (refused.status_code, refused.json()["code"]) == (409, "revision_conflict")
    assert (await api.get(f"/v1/turns/{turn['id']}"))["status"] == "pending"


async def test_a_turn_that_is_not_there_or_anothers_is_not_found(api: Tenant, other: Tenant) -> None:
    turn = await api.turn((await api.session())["id"])
    for caller, turn_id in ((api, uuid4()), (other, turn["id"])):
        answer = await caller.http.post(f"/v1/turns/{turn_id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")


async def test_an_opening_turn_may_be_cancelled(api: Tenant) -> None:
    session = await api.session(begins_with="agent")
    cancelled = await api.made(api.http.post(f"/v1/turns/{session['opening_turn']['id']}/cancel"))
    assert (cancelled["status"], cancelled["opening"]) == ("cancelled", True)
