"""When the client repeats a request, how long it pauses, and when it gives up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from api_stub.client import (
    ApiUnavailable,
    ApiUnreachable,
    InvalidRequest,
    LimitReached,
    NotFound,
    TurnUnfinished,
    calls,
    flows,
    resource_calls,
)
from api_stub.client.flows import Pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api_stub.client.call import Call
    from api_stub.client.flows import Flow


def turn(status: str = "completed") -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "id": str(uuid4()),
        "organization_id": str(uuid4()),
        "session_id": str(uuid4()),
        "session_state": "running",
        "revision": 1,
        "position": 1,
        "parent_turn_id": None,
        "retry_of_turn_id": None,
        "carries_over_turn_id": None,
        "status": status,
        "opening": False,
        "priority": 0,
        "user_messages": ["Hi."],
        "assistant_text": None,
        "error": None,
        "attempt": 1,
        "usage": {},
        "external_id": None,
        "metadata": {},
        "created_at": now,
        "not_before": None,
        "available_at": now,
        "first_claimed_at": None,
        "claimed_at": None,
        "assistant_created_at": None,
        "ended_at": None,
    }


def drive(flow: Flow[Any], answers: Sequence[httpx.Response | Exception]) -> tuple[Any, list[Call[Any]], list[float]]:
    """Answer a flow's calls one after the other; its result, its calls and its pauses."""
    sent: list[Call[Any]] = []
    pauses: list[float] = []
    waiting = list(answers)
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = next(flow)
                continue
            sent.append(step)
            answer = waiting.pop(0)
            step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as stop:
        assert not waiting
        return stop.value, sent, pauses


def ok(status: str = "completed") -> httpx.Response:
    return httpx.Response(200, json=turn(status))


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
    + [httpx.Response(status) for status in (429, 502, 503, 504)],
)
def test_a_request_that_failed_for_now_is_sent_again_unchanged(failure: httpx.Response | Exception) -> None:
    call = calls.enqueue("1", "Hi.")
    answered, sent, pauses = drive(flows.exchange(call, retries=4), [failure, failure, ok()])
    assert answered.status == "completed"
    assert sent == [call] * 3
    assert 0 < pauses[0] <= 0.1
    assert 0.1 <= pauses[1] <= 0.2


def test_a_request_is_not_repeated_for_ever() -> None:
    with pytest.raises(ApiUnreachable, match=r"POST /v1/sessions/1/turns.*refused") as given_up:
        drive(flows.exchange(calls.enqueue("1", "Hi."), retries=2), [httpx.ConnectError("refused")] * 3)
    assert isinstance(given_up.value.__cause__, httpx.ConnectError)
    with pytest.raises(ApiUnavailable):
        drive(flows.exchange(calls.get_turn("1"), retries=2), [httpx.Response(503)] * 3)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_request_that_failed_for_good_is_not_repeated(status: int) -> None:
    with pytest.raises((InvalidRequest, ApiUnavailable)):
        drive(flows.exchange(calls.get_turn("1"), retries=4), [httpx.Response(status)])


@pytest.mark.parametrize(("value", "least"), [("3", 3), ("45", 45), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("-1", 0)])
def test_a_pause_is_as_long_as_the_api_asks(value: str, least: float) -> None:
    busy = httpx.Response(503, headers={"Retry-After": value})
    _, _, (pause,) = drive(flows.exchange(calls.get_turn("1"), retries=1), [busy, ok()])
    assert least <= pause <= max(least, 0.1)


def test_a_request_that_may_not_be_repeated_for_long_is_left_to_its_caller() -> None:
    refused = httpx.Response(429, headers={"Retry-After": "3600"})
    with pytest.raises(LimitReached) as reached:
        drive(flows.exchange(calls.enqueue("1", "Hi."), retries=4), [refused])
    assert reached.value.retry_after_seconds == 3600


def test_waiting_asks_until_the_turn_is_over() -> None:
    waited, sent, _ = drive(flows.wait("1", 600, 0), [ok("pending"), ok("running"), ok("failed")])
    assert waited.status == "failed"
    assert [call.params for call in sent] == [{"wait": "30.000"}] * 3


def test_waiting_ends_with_the_turn_as_it_is_when_the_time_is_over() -> None:
    with pytest.raises(TurnUnfinished, match="still running") as over:
        drive(flows.wait("1", 0, 0), [ok("running")])
    assert over.value.turn.status == "running"


def test_waiting_for_no_time_takes_what_is_there() -> None:
    waited, (call,), _ = drive(flows.wait("1", 0, 0), [ok("completed")])
    assert waited.is_terminal
    assert call.params == {}


def test_a_deletion_whose_answer_was_lost_is_done_when_nothing_is_left_to_delete() -> None:
    call = resource_calls.delete_recording("r")
    assert drive(flows.exchange(call, retries=4), [httpx.ReadError("cut"), httpx.Response(404)])[0] is None
    with pytest.raises(NotFound):
        drive(flows.exchange(call, retries=4), [httpx.Response(404)])
