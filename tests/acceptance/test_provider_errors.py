"""Whatever the provider does wrong, its caller learns of it through the API as what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system import Caller, System


@pytest.fixture(scope="module", autouse=True)
def forgotten(shared_system: System) -> Iterator[None]:
    """Workers remember for a while that a provider refused calls; those of other tests are not to be held up by it."""
    yield
    for worker in shared_system.workers:
        worker.kill()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"status": 400, "type": "invalid_request_error", "message": "max_tokens: too large"}, "llm_invalid_request"),
        ({"status": 400, "message": "prompt is too long: 200001 tokens > 200000 maximum"}, "llm_request_too_large"),
        ({"status": 401, "type": "authentication_error", "message": "invalid x-api-key"}, "llm_authentication_failed"),
        ({"status": 402, "type": "billing_error", "message": "Pay first."}, "llm_quota_exhausted"),
        ({"status": 403, "type": "permission_error", "message": "Not you."}, "llm_permission_denied"),
        ({"status": 404, "type": "not_found_error", "message": "model: none"}, "llm_not_found"),
        ({"status": 413, "type": "request_too_large", "message": "Too many bytes."}, "llm_request_too_large"),
    ],
)
async def test_an_error_that_will_not_pass_fails_the_turn_at_once_and_the_next_turn_is_not_affected(
    caller: Caller, system: System, error: dict[str, Any], code: str
) -> None:
    system.play({"when": {"user_contains": "unlucky"}, "error": error})
    session = await caller.session()
    turn = await caller.ask(session, "unlucky")
    assert turn.error is not None
    assert (turn.status, turn.error.code, turn.error.retryable, turn.attempt) == ("failed", code, False, 1)
    assert str(error["status"]) in turn.error.message
    assert "sk-ant" not in turn.error.message
    assert (await caller.ask(session, "lucky")).assistant_text == "You said: lucky"
    assert [message["role"] for message in system.llm.requests[-1].body["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ({"error": {"status": 408, "type": "timeout_error"}}, "llm_timeout"),
        ({"error": {"status": 429, "type": "rate_limit_error", "retry_after": 0.01}}, "llm_rate_limited"),
        ({"error": {"status": 500, "type": "api_error"}}, "llm_unavailable"),
        ({"error": {"status": 503}}, "llm_overloaded"),
        ({"error": {"status": 529, "type": "overloaded_error"}}, "llm_overloaded"),
        ({"error": {"status": 529, "type": "overloaded_error", "after_chunks": 1}, "reply": "Half"}, "llm_overloaded"),
        ({"reset": True}, "llm_connection_failed"),
        ({"reply": "Half of an answer that breaks off", "break_after": 1}, "llm_stream_broken"),
        ({"reply": []}, "llm_empty_reply"),
    ],
)
async def test_an_error_that_may_pass_is_tried_again_and_if_it_stays_fails_the_turn_as_retryable(
    caller: Caller, system: System, trouble: dict[str, Any], code: str
) -> None:
    system.play(
        {"when": {"user_contains": "for a moment"}, "times": 1, **trouble},
        {"when": {"user_contains": "ever"}, **trouble},
    )
    session = await caller.session()
    passing = await caller.ask(session, "for a moment")
    assert (passing.status, passing.assistant_text, passing.attempt, passing.error) == (
        ("completed", "You said: for a moment", 2, None)
    )
    staying = await caller.ask(session, "for ever")
    assert staying.error is not None
    assert (staying.status, staying.error.code, staying.error.retryable, staying.attempt) == ("failed", code, True, 3)
    retries = [event for event in await caller.log_of(session) if event.type == "turn.retrying"]
    assert [event.payload["error"]["code"] for event in retries if event.payload] == [code] * 3


@pytest.mark.parametrize("reason", ["refusal", "max_tokens"])
async def test_an_answer_that_the_provider_cut_short_is_shown_with_the_reason(
    caller: Caller, system: System, reason: str
) -> None:
    system.play({"reply": "As far as it went.", "stop_reason": reason})
    session = await caller.session()
    turn = await caller.ask(session, "Go on.")
    assert (turn.status, turn.assistant_text) == ("completed", "As far as it went.")
    (stop,) = [event for event in await caller.log_of(session) if event.type == "turn.reply_stopped_early"]
    assert stop.payload is not None
    assert stop.payload["reason"] == reason
