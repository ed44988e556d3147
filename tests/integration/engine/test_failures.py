"""An error never looks like an answer: what fails, how it is classified, and what is left of the attempt."""

from __future__ import annotations

import asyncio
import gc
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pipecat.processors.filters.identity_filter import IdentityFilter
from pydantic import SecretStr

from tests.integration.engine.talk import ANTHROPIC, EVERY_PROTOCOL, KEY, OPENAI, tool
from worker.conversation.checkpoint import Checkpoint
from worker.conversation.user_message import UserMessage
from worker.engine.failures import (
    BrokenContext,
    InvalidModelParameters,
    LLMNotConfigured,
    PermanentFailure,
    TransientFailure,
    TurnFailed,
    TurnInterrupted,
    TurnTimeout,
    UnknownLLMProvider,
)
from worker.engine.llm.provider import provider
from worker.engine.outstanding import Outstanding
from worker.engine.pipeline import running_pipeline
from worker.engine.turn import run_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.conversation.event import TurnEvent
    from worker.engine.request import ResolvedModel
    from worker.engine.tools.tool import Tool
    from worker.workflow.definition import ConversationNode


async def failure(talk: Talk, *messages: str, **changes: Any) -> TurnFailed:
    talk.at("start", {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."})
    before = talk.checkpoint.to_json()
    with pytest.raises(TurnFailed) as failed:
        await talk.turn(*(messages or ("Question",)), **changes)
    assert talk.checkpoint.to_json() == before
    assert failed.value.events[-1].type == "execution_error"
    assert failed.value.events[-1].payload == {"code": failed.value.code, "message": str(failed.value)}
    assert KEY not in str(failed.value)
    return failed.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "llm_invalid_request", PermanentFailure),
        (401, "llm_authentication_failed", PermanentFailure),
        (402, "llm_quota_exhausted", PermanentFailure),
        (403, "llm_permission_denied", PermanentFailure),
        (404, "llm_not_found", PermanentFailure),
        (413, "llm_request_too_large", PermanentFailure),
        (422, "llm_invalid_request", PermanentFailure),
        (429, "llm_rate_limited", TransientFailure),
        (500, "llm_unavailable", TransientFailure),
        (502, "llm_unavailable", TransientFailure),
        (529, "llm_overloaded", TransientFailure),
    ],
)
async def test_each_error_status_fails_the_turn_as_what_it_is(
    talk: Talk, status: int, code: str, kind: type[TurnFailed]
) -> None:
    talk.script({"error": {"status": status, "message": f"No luck with {KEY}"}})

    failed = await failure(talk)

    assert (failed.code, type(failed).retryable) == (code, kind is TransientFailure)
    assert isinstance(failed, kind)
    assert f"answered {status}" in str(failed)
    assert "No luck with ***" in str(failed)
    assert len(talk.llm.requests) == 1, "retries are not the SDK's"
    assert talk.ledger.calls == []


async def test_a_rejected_key_says_what_to_check(talk: Talk) -> None:
    talk.script(rejected_keys=[KEY])

    failed = await failure(talk)

    assert failed.code == "llm_authentication_failed"
    assert "Check the API key" in str(failed)


async def test_retry_after_is_handed_on(talk: Talk) -> None:
    talk.script({"error": {"status": 429, "retry_after": 7}})

    failed = await failure(talk)

    assert isinstance(failed, TransientFailure)
    assert failed.retry_after_seconds == 7


@OPENAI
async def test_an_exhausted_quota_is_permanent_although_its_status_is_429(talk: Talk) -> None:
    talk.script({"error": {"status": 429, "type": "insufficient_quota", "code": "insufficient_quota"}})

    assert (await failure(talk)).code == "llm_quota_exhausted"


@ANTHROPIC
async def test_a_low_credit_balance_is_a_quota_although_its_status_is_400(talk: Talk) -> None:
    talk.script({"error": {"status": 400, "message": "Your credit balance is too low to access the Anthropic API."}})

    assert (await failure(talk)).code == "llm_quota_exhausted"


@EVERY_PROTOCOL
async def test_a_stream_that_breaks_off_is_transient_and_what_it_used_is_kept(talk: Talk) -> None:
    talk.script({"reply": "This is the beginning of a long answer", "break_after": 1})

    failed = await failure(talk)

    assert failed.code == "llm_stream_broken"
    assert isinstance(failed, TransientFailure)
    (call,) = talk.ledger.calls
    assert call.usage.completion_tokens > 0
    assert list(failed.usage.llm.values()) == [call.usage]


@ANTHROPIC
async def test_an_error_in_the_middle_of_a_stream_is_classified_by_its_type(talk: Talk) -> None:
    talk.script({"reply": "Well begun", "error": {"status": 529, "after_chunks": 1}})

    failed = await failure(talk)

    assert failed.code == "llm_overloaded"
    assert len(talk.ledger.calls) == 1


async def test_any_error_in_the_middle_of_a_stream_is_transient(talk: Talk) -> None:
    talk.script({"reply": "Well begun", "error": {"status": 500, "after_chunks": 1}})

    assert isinstance(await failure(talk), TransientFailure)


@EVERY_PROTOCOL
async def test_a_connection_that_is_reset_is_transient(talk: Talk) -> None:
    talk.script({"reset": True})

    failed = await failure(talk)

    assert failed.code == "llm_connection_failed"
    assert isinstance(failed, TransientFailure)


@EVERY_PROTOCOL
async def test_a_server_that_is_not_there_is_transient(talk: Talk) -> None:
    talk.llm.stop()

    assert (await failure(talk)).code == "llm_connection_failed"


@EVERY_PROTOCOL
async def test_an_empty_reply_is_a_transient_failure(talk: Talk) -> None:
    talk.script({"reply": []})

    failed = await failure(talk)

    assert failed.code == "llm_empty_reply"
    assert isinstance(failed, TransientFailure)


@pytest.mark.parametrize("model", ["anthropic", "google", "aws"], indirect=True)
async def test_a_reply_that_went_wrong_before_its_first_word_is_an_empty_one_with_its_reason(talk: Talk) -> None:
    talk.script({"reply": [], "stop_reason": "malformed_tool_use"})

    failed = await failure(talk)

    assert failed.code == "llm_empty_reply"
    assert "malformed" in str(failed)


async def test_a_reply_of_white_space_is_an_empty_one(talk: Talk) -> None:
    talk.script({"reply": " \n"})

    assert (await failure(talk)).code == "llm_empty_reply"


async def test_an_empty_reply_after_a_tool_is_a_failure_too(talk: Talk) -> None:
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": []})

    assert (await failure(talk)).code == "llm_empty_reply"


@ANTHROPIC
@pytest.mark.parametrize("hold_after", [0, 1])
async def test_a_provider_that_falls_silent_is_a_timeout_of_its_own(talk: Talk, hold_after: int) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, timeout_seconds=0.5)
    talk.script({"reply": "One, two, three, four, five, six, seven", "hold": "for ever", "hold_after": hold_after})

    failed = await failure(talk)

    assert failed.code == "llm_timeout"
    assert isinstance(failed, TransientFailure)
    assert len(talk.ledger.calls) == hold_after


@ANTHROPIC
async def test_a_reply_that_keeps_coming_is_never_silent(talk: Talk) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, timeout_seconds=1.0)
    talk.script({"reply": "abcdefghijkl", "chunk_characters": 1, "seconds_per_chunk": 0.1})

    assert (await talk.turn("Go")).assistant_text == "Hello Ada.\n\nabcdefghijkl"


@ANTHROPIC
@pytest.mark.parametrize("hold_after", [0, 1])
async def test_a_turn_past_its_limit_names_what_it_waited_for(talk: Talk, hold_after: int) -> None:
    talk.script({"reply": "One, two, three, four, five, six, seven", "hold": "for ever", "hold_after": hold_after})

    failed = await failure(talk, time_limit_seconds=1.0)

    assert isinstance(failed, TurnTimeout)
    assert failed.code == "turn_timeout"
    assert "1 s while waiting for: an LLM response." in str(failed)


@ANTHROPIC
async def test_a_turn_past_its_limit_names_the_tool_it_waited_for(talk: Talk) -> None:
    stopped = asyncio.Event()

    async def hang(_: Mapping[str, JsonValue]) -> JsonValue:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return None

    talk.tools.by_node["start"] = [tool("ponder", hang)]
    talk.script({"reply": [{"tool": "ponder"}]})

    failed = await failure(talk, time_limit_seconds=1.0)

    assert "the tool call ponder (" in str(failed)
    assert stopped.is_set()
    assert [event.type for event in failed.events] == ["tool_call_started", "execution_error"]
    assert len(failed.usage.llm) == 1


async def test_a_turn_that_fails_late_keeps_its_events_and_its_usage(talk: Talk) -> None:
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"error": {"status": 500}})

    failed = await failure(talk)

    assert [event.type for event in failed.events] == [
        "tool_call_started",
        "node_transition",
        "tool_call_result",
        "execution_error",
    ]
    assert len(talk.ledger.calls) == 1
    assert list(failed.usage.llm.values()) == [talk.ledger.calls[0].usage]


async def test_an_unknown_provider_is_told_which_there_are(talk: Talk) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, provider="acme")

    failed = await failure(talk)

    assert isinstance(failed, UnknownLLMProvider)
    assert "'acme'" in str(failed)
    assert "anthropic, openai" in str(failed)


@EVERY_PROTOCOL
async def test_a_providers_own_address_without_a_key_is_not_configured(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "the operator's")
    monkeypatch.setenv("OPENAI_API_KEY", "the operator's")
    monkeypatch.setenv("GOOGLE_API_KEY", "the operator's")
    assert talk.model is not None
    talk.model = replace(talk.model, api_key=None, base_url=None)

    assert isinstance(await failure(talk), LLMNotConfigured)


@EVERY_PROTOCOL
async def test_a_key_of_the_environment_is_never_sent_to_another_address(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_SECRET_ACCESS_KEY",
        "OPENAI_API_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "GOOGLE_API_KEY",
        "GOOGLE_CLOUD_PROJECT",
    ):
        monkeypatch.setenv(name, "the-operators")
    for name in ("ANTHROPIC_CUSTOM_HEADERS", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Gateway-Key: the-operators")
    assert talk.model is not None
    talk.model = replace(talk.model, api_key=None)

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    assert request.api_key == "none"
    assert "the-operators" not in str(request.headers)


@pytest.mark.parametrize("name", ["messages", "tools", "system", "stream"])
async def test_parameters_cannot_take_the_request_over(talk: Talk, name: str) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, parameters={name: False})

    failed = await failure(talk)

    assert isinstance(failed, InvalidModelParameters)
    assert name in str(failed)


async def test_a_context_with_an_unanswered_call_is_not_stored(talk: Talk) -> None:
    talk.at("start", {"role": "tool", "tool_call_id": "lost", "content": "1"}, {"role": "user", "content": "Hi"})
    talk.model = None
    talk.checkpoint = replace(talk.checkpoint, current_node_id=None)

    with pytest.raises(BrokenContext, match="lost"):
        await talk.turn()


async def test_a_context_with_an_unanswered_call_is_not_sent(talk: Talk) -> None:
    talk.at("start", {"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "lost", "content": "1"})

    with pytest.raises(BrokenContext, match="lost"):
        await talk.turn("Go on")
    assert talk.llm.requests == []


async def test_a_failure_survives_pickling(talk: Talk) -> None:
    talk.script({"error": {"status": 429, "retry_after": 7}})

    failed = await failure(talk)
    copy = pickle.loads(pickle.dumps(failed))

    assert (type(copy), str(copy), copy.events, copy.usage) == (type(failed), str(failed), failed.events, failed.usage)
    assert copy.retry_after_seconds == 7


async def test_a_conversation_that_the_provider_cannot_be_sent_is_an_invalid_request(talk: Talk) -> None:
    file = {"file_data": "data:application/x-tar;base64,aGk=", "filename": "a.tar", "mime_type": "application/x-tar"}
    talk.at("start", {"role": "user", "content": [{"type": "file_base64", "file": file}]})

    with pytest.raises(PermanentFailure, match="x-tar") as failed:
        await talk.turn("What is in it?")

    assert failed.value.code == "llm_invalid_request"


async def test_a_timeout_of_somebody_else_is_not_taken_for_the_turns(talk: Talk) -> None:
    class Slow:
        async def of(self, node: ConversationNode, report: Callable[[TurnEvent], None]) -> Sequence[Tool]:
            raise TimeoutError(f"the tools of {node.id}")

    with pytest.raises(TimeoutError, match="the tools of start"):
        await run_turn(talk.request("Hi"), clients=talk.clients, tools=Slow())


async def test_a_pipeline_that_ends_by_itself_ends_the_waiting(model: ResolvedModel) -> None:
    outstanding = Outstanding()
    outstanding.begin("an LLM response")
    calls: Any = None
    passing = IdentityFilter()  # type: ignore[no-untyped-call]  # pipecat's is untyped
    llm = provider(model.provider).service(calls, model, calls, "")

    async def run() -> None:
        async with running_pipeline(llm, passing, outstanding) as pipeline:
            await pipeline.cancel()
            await outstanding.settled()

    with pytest.raises(TurnInterrupted, match="ended before the turn did"):
        await run()


@EVERY_PROTOCOL
@pytest.mark.parametrize("hold_after", [0, 1])
async def test_a_cancelled_turn_stops_its_http_stream_and_leaves_nothing_running(talk: Talk, hold_after: int) -> None:
    talk.script({"reply": "One, two, three, four, five, six, seven", "hold": "for ever", "hold_after": hold_after})
    before = asyncio.all_tasks()
    turn = asyncio.create_task(talk.turn("Hi"))
    await talk.llm.wait_for_request()

    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn

    await talk.llm.wait_for_request(lambda request: request.client_gone)
    assert asyncio.all_tasks() == before


@ANTHROPIC
async def test_a_turn_cancelled_at_any_moment_ends_at_once_and_leaves_nothing_running(talk: Talk) -> None:
    talk.script({"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]}, {"reply": "When?"})
    before = asyncio.all_tasks()
    for steps in range(240):
        turn = asyncio.create_task(talk.run(talk.request("A date", checkpoint=Checkpoint())))
        for _ in range(steps):
            await asyncio.sleep(0)
        turn.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(turn, return_exceptions=True)
        assert asyncio.all_tasks() == before, f"cancelled after {steps} steps"


async def test_what_a_cancelled_turn_used_is_written_down(talk: Talk) -> None:
    heard = asyncio.Event()
    talk.script({"times": 1, "reply": [{"tool": "wait"}]})

    async def wait(_: Mapping[str, JsonValue]) -> JsonValue:
        heard.set()
        await asyncio.Event().wait()
        return None

    talk.tools.by_node["start"] = [tool("wait", wait)]
    turn = asyncio.create_task(talk.turn("Hi"))
    await heard.wait()

    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn

    (call,) = talk.ledger.calls
    assert call.usage.prompt_tokens > 0


@ANTHROPIC
async def test_nothing_is_left_running_whatever_happens(talk: Talk) -> None:
    before = asyncio.all_tasks()
    talk.script(
        {"when": {"user_contains": "move", "tool_offered": "book"}, "reply": [{"tool": "book"}]},
        {"when": {"user_contains": "break"}, "reply": "Well, well", "break_after": 1},
        {"when": {"user_contains": "refuse"}, "error": {"status": 401}},
        {"when": {"user_contains": "empty"}, "reply": []},
    )
    for message in ("hello", "move", "break", "refuse", "empty"):
        request = replace(talk.request(message), user_messages=(UserMessage(message),))
        (result,) = await asyncio.gather(run_turn(request, clients=talk.clients), return_exceptions=True)
        assert not isinstance(result, asyncio.CancelledError)
        assert asyncio.all_tasks() == before
    gc.collect()


async def test_a_key_does_not_show_in_the_repr_of_its_model(model: ResolvedModel) -> None:
    assert model.api_key == SecretStr(KEY)
    assert KEY not in repr(model)


async def test_after_a_refusal_other_turns_of_the_same_key_wait_for_a_place_and_are_not_refused_too(
    talk: Talk,
) -> None:
    talk.script(
        {"times": 1, "error": {"status": 429, "retry_after": 0.01}},
        {"times": 1, "hold": "first", "reply": "One."},
        {"reply": "Two."},
    )
    with pytest.raises(TransientFailure):
        await talk.turn("Hello.")
    assert talk.model is not None
    gate = talk.clients.gate(talk.model)
    assert gate.limit == 1
    first = asyncio.create_task(talk.turn("Hello."))
    await talk.llm.wait_for_request(count=2)
    second = asyncio.create_task(talk.turn("Hello."))
    while not gate.waiting:  # noqa: ASYNC110 - nobody else needs to know
        await asyncio.sleep(0)
    assert len(talk.llm.requests) == 2, "the second turn waits here, not there"
    talk.llm.release("first")
    assert [str((await turn).assistant_text)[-4:] for turn in (first, second)] == ["One.", "Two."]
