"""What the client asks, and what it makes of the answers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from api_stub.client import (
    ApiError,
    ApiUnavailable,
    AsyncTurnWorkerClient,
    Conflict,
    InvalidApiKey,
    InvalidRequest,
    LimitReached,
    NotFound,
    TurnWorkerClient,
    calls,
)


def problem(status: int, **members: Any) -> httpx.Response:
    body = {"type": "/problems/x", "title": "Title", "status": status, "code": "x", "detail": "Detail."} | members
    return httpx.Response(status, json=body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, InvalidApiKey),
        (404, NotFound),
        (409, Conflict),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (429, LimitReached),
        (418, ApiError),
        (500, ApiUnavailable),
        (503, ApiUnavailable),
    ],
)
def test_a_problem_is_raised_as_the_kind_of_error_its_status_asks_for(status: int, kind: type[ApiError]) -> None:
    with pytest.raises(ApiError) as raised:
        calls.get_turn("1").read(problem(status))
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.code) == (status, "x")


def test_an_error_carries_what_its_kind_of_problem_says_beyond_the_usual() -> None:
    with pytest.raises(Conflict) as raised:
        calls.get_session("1").read(problem(409, code="revision_conflict", actual_revision=7))
    assert raised.value.extensions == {"actual_revision": 7}


def test_an_error_s_text_names_every_fault() -> None:
    faults = [{"pointer": "/text", "message": "It is blank."}, {"pointer": "/x", "message": "Unknown."}]
    with pytest.raises(InvalidRequest, match=r"(?s)Title \(422, x\): Detail.*blank.*Unknown"):
        calls.get_session("1").read(problem(422, errors=faults))


@pytest.mark.parametrize("content", [b"<html>Bad Gateway</html>", b"", b"[]", b'{"detail": "other"}'])
def test_an_error_of_a_proxy_on_the_way_is_an_error_too(content: bytes) -> None:
    with pytest.raises(ApiUnavailable) as raised:
        calls.get_session("1").read(httpx.Response(502, content=content))
    assert (raised.value.status, raised.value.code) == (502, "not_from_the_api")


def test_every_request_that_creates_has_a_key_of_its_own_unless_it_is_given_one() -> None:
    first, second = calls.enqueue("1", "Hi."), calls.enqueue("1", "Hi.")
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]
    assert calls.enqueue("1", "Hi.", idempotency_key="mine").headers == {"Idempotency-Key": "mine"}
    assert all(
        "Idempotency-Key" in call.headers
        for call in (calls.create_workflow("a", {}), calls.create_session("1"), calls.end_session("1"))
    )


def test_only_what_is_given_is_sent() -> None:
    assert calls.enqueue("1", "Hi.").json == {"text": "Hi."}
    assert calls.enqueue("1", ["a", "b"], metadata={}).json == {"messages": ["a", "b"], "metadata": {}}
    assert calls.list_sessions(state="running").params == {"state": "running", "limit": "50"}


def test_waiting_is_asked_for_only_when_wanted_and_never_for_longer_than_the_api_does() -> None:
    assert calls.get_turn("1").params == {}
    assert calls.get_turn("1", wait_seconds=1.5).params == {"wait": "1.500"}
    long = calls.get_turn("1", wait_seconds=1000)
    assert (long.params, long.patience_seconds) == ({"wait": "30.000"}, 30)


def test_either_a_session_or_a_turn_is_followed() -> None:
    session, turn = uuid4(), uuid4()
    assert calls.list_events(session_id=session).path == f"/v1/sessions/{session}/events"
    assert calls.list_events(turn_id=turn).path == f"/v1/turns/{turn}/events"
    with pytest.raises(ValueError, match="either a session or a turn"):
        calls.list_events()
    with pytest.raises(ValueError, match="either a session or a turn"):
        calls.list_events(session_id=session, turn_id=turn)


def test_an_answer_may_have_members_that_this_release_does_not_know() -> None:
    page = {"data": [], "revision": 1, "finished": True, "novelty": 1}
    assert calls.list_events(turn_id="1").read(httpx.Response(200, json=page)).finished is True


def test_both_clients_can_do_the_same() -> None:
    def methods(client: type[object]) -> set[str]:
        return {name for name in dir(client) if not name.startswith("_")} - {"close", "aclose"}

    assert methods(TurnWorkerClient) == methods(AsyncTurnWorkerClient)
    assert TurnWorkerClient.enqueue.__doc__ == calls.enqueue.__doc__
