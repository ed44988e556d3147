"""Every provider that a configuration may name holds a conversation with tools, through pipecat's own service for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pipecat.services.sarvam.llm import SarvamLLMService

from tests.integration.engine.talk import ANTHROPIC, KEY, OPENAI, model_of, tool
from tests.web_server import web_server
from worker.conversation.user_message import Image, UserMessage
from worker.engine.failures import (
    InvalidModelParameters,
    LLMAuthenticationFailed,
    LLMPermissionDenied,
    LLMRequestInvalid,
    LLMUnavailable,
    UnknownLLMProvider,
)
from worker.workflow.llm_providers import LLM_PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.engine.request import ResolvedModel

REPORT_USAGE_UNASKED = ["fireworks", "mistral", "sarvam"]
"""They do not take the option that asks for it, so the scripted LLM does not report any."""
COMPATIBLE = sorted(
    LLM_PROVIDERS.keys() - {"anthropic", "openai", "google", "google-vertex", "aws", "openai-responses"}
)


async def look(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return {"day": arguments["day"], "times": ["10:00"]}


def a_model_of(name: str) -> str:
    return next(iter(LLM_PROVIDERS[name].models), "any")


@OPENAI
@pytest.mark.parametrize("name", COMPATIBLE)
async def test_a_provider_with_openais_protocol_answers_calls_tools_and_follows_transitions(
    talk: Talk, name: str
) -> None:
    talk.model = replace(model_of(talk), provider=name, model=a_model_of(name))
    talk.at("book")
    talk.tools.by_node["book"] = [tool("look", look)]
    talk.script(
        {"when": {"after_tool_result": "look"}, "reply": [{"text": "There is one."}, {"tool": "back"}]},
        {"when": {"after_tool_result": "back"}, "reply": "Anything else?"},
        {"reply": [{"tool": "look", "input": {"day": "Monday"}}, {"tool": "look", "input": {"day": "Friday"}}]},
    )

    outcome = await talk.turn("When?")
    again = await talk.turn("And then?")

    assert outcome.assistant_text == "There is one.\n\nAnything else?"
    assert outcome.checkpoint.current_node_id == "start"
    assert [message["role"] for message in outcome.checkpoint.messages] == [
        "user", "assistant", "tool", "tool", "assistant", "tool", "assistant",
    ]  # fmt: skip
    (used,) = outcome.usage.llm
    assert used == f"{LLM_PROVIDERS[name].service.partition(':')[2]}|||{talk.model.model}"
    assert again.usage.llm[used].prompt_tokens > 0 or name in REPORT_USAGE_UNASKED
    assert talk.llm.requests[0].api_key == model_of(talk).api_key.get_secret_value()  # type: ignore[union-attr] # it has one


@OPENAI
@pytest.mark.parametrize("name", REPORT_USAGE_UNASKED)
async def test_a_side_question_does_not_ask_for_usage_where_that_is_refused(talk: Talk, name: str) -> None:
    talk.model = replace(model_of(talk), provider=name, model=a_model_of(name))
    talk.node("start", extraction_enabled=True, extraction_variables=[{"name": "day", "type": "string"}])
    talk.at("start")
    talk.script(
        {"when": {"user_contains": "# Variables"}, "reply": '{"day": "Monday"}'},
        {"when": {"tool_offered": "leave"}, "reply": [{"tool": "book"}]},
        {"reply": "When?"},
    )

    outcome = await talk.turn("Monday")

    assert outcome.gathered_context["day"] == "Monday"
    assert len(talk.llm.requests) == 3
    assert not any("stream_options" in request.body for request in talk.llm.requests)


@OPENAI
async def test_sarvam_is_called_with_its_key_in_its_own_header_too(talk: Talk) -> None:
    async with web_server() as server:
        server.answer("/chat/completions", {"error": {"message": "No such key."}}, status=403)
        talk.model = replace(model_of(talk), provider="sarvam", model="gemma4", base_url=server.url)

        with pytest.raises(LLMPermissionDenied):
            await talk.turn("Hi")

    (received,) = server.received
    assert (received.headers["api-subscription-key"], received.headers["Authorization"]) == (KEY, f"Bearer {KEY}")


@OPENAI
async def test_each_model_of_sarvam_is_called_at_the_address_that_serves_it(talk: Talk) -> None:
    sarvam = replace(model_of(talk), provider="sarvam", base_url=None)
    both = [replace(sarvam, model=name) for name in ("sarvam-105b", "sarvam-105b-conversations")]

    async with talk.clients.lend(both[0]) as (_, first), talk.clients.lend(both[1]) as (_, second):
        addresses = str(first.base_url), str(second.base_url)

    assert addresses == ("https://api.sarvam.ai/v2/", "https://api.sarvam.ai/v1/")


def test_the_models_that_sarvam_is_known_to_have_are_those_that_pipecats_service_takes() -> None:
    known = LLM_PROVIDERS["sarvam"].models

    assert known.keys() == SarvamLLMService._SUPPORTED_MODELS
    assert {name for name, root in known.items() if root.endswith("/v1")} == SarvamLLMService._V1_MODELS


@OPENAI
async def test_a_model_that_its_provider_does_not_have_is_refused_with_those_it_has(talk: Talk) -> None:
    with pytest.raises(InvalidModelParameters, match=r"no model 'gpt-5'\. It has .*sarvam-105b"):
        await talk.turn("Hi", model=replace(model_of(talk), provider="sarvam", model="gpt-5"))


@OPENAI
async def test_pictures_for_a_model_that_takes_none_are_refused_for_good_in_one_sentence(talk: Talk) -> None:
    talk.at("start")
    talk.model = replace(model_of(talk), provider="sarvam", model="sarvam-105b")

    with pytest.raises(LLMRequestInvalid, match="does not support image input"):
        await talk.turn(UserMessage("What is this?", (Image(url="https://a.example/b.png"),)))

    assert talk.llm.requests == []


@ANTHROPIC
async def test_effort_and_caching_reach_anthropic(talk: Talk) -> None:
    talk.at("start")
    await talk.turn("Hi")
    talk.model = replace(model_of(talk), effort="minimal", prompt_caching=False)
    await talk.turn("Hi again")

    plain, changed = (request.body for request in talk.llm.requests)
    assert "cache_control" in str(plain)
    assert "cache_control" not in str(changed)
    assert changed["output_config"] == {"effort": "low"}


@OPENAI
async def test_effort_reaches_openai(talk: Talk) -> None:
    talk.at("start")
    talk.model = replace(model_of(talk), effort="low")

    await talk.turn("Hi")

    assert talk.llm.requests[0].body["reasoning_effort"] == "low"


FAILS_FOR_GOOD = {"when": {"model": "first"}, "error": {"status": 401}}
OVERLOADED = {"when": {"model": "first"}, "error": {"status": 529}}
BROKEN = {"when": {"model": "first"}, "error": {"status": 500}}
ANSWERS = {"when": {"model": "second"}, "reply": "I can."}


def with_fallback(talk: Talk) -> dict[str, ResolvedModel]:
    return {"model": replace(model_of(talk), model="first"), "fallback_model": replace(model_of(talk), model="second")}


@pytest.mark.parametrize("trouble", [FAILS_FOR_GOOD, OVERLOADED])
async def test_the_fallback_answers_when_the_model_fails_for_good_or_is_overloaded(
    talk: Talk, trouble: dict[str, object]
) -> None:
    talk.at("start")
    talk.script(trouble, ANSWERS)

    outcome = await talk.turn("Can you?", **with_fallback(talk))

    assert outcome.assistant_text == "I can."
    (noted,) = [event.payload for event in outcome.events if event.type == "model_fallback"]
    assert (noted["llm_model"], noted["code"]) in {
        ("second", "llm_authentication_failed"),
        ("second", "llm_overloaded"),
    }
    assert [message["role"] for message in outcome.checkpoint.messages] == ["user", "assistant"]


async def test_a_failure_that_may_pass_is_left_to_the_next_attempt_unless_this_is_the_last(talk: Talk) -> None:
    talk.at("start")
    talk.script(BROKEN, ANSWERS)

    with pytest.raises(LLMUnavailable):
        await talk.turn("Can you?", **with_fallback(talk))
    outcome = await talk.turn("Can you?", **with_fallback(talk), last_attempt=True)

    assert outcome.assistant_text == "I can."


async def test_what_was_done_before_the_model_failed_stands_and_is_not_done_again(talk: Talk) -> None:
    done = []

    async def note(_: Mapping[str, JsonValue]) -> JsonValue:
        done.append(1)
        return "noted"

    talk.at("book")
    talk.tools.by_node["book"] = [tool("note", note)]
    talk.script(
        {"when": {"model": "first"}, "times": 1, "reply": [{"text": "I note it."}, {"tool": "note"}]},
        FAILS_FOR_GOOD,
        {"when": {"model": "second", "after_tool_result": "note"}, "times": 1, "reply": [{"tool": "note"}]},
        ANSWERS,
    )

    outcome = await talk.turn("Note it", **with_fallback(talk))

    assert outcome.assistant_text == "I note it.\n\nI can."
    assert len(done) == 2
    assert [call.number for call in talk.ledger.calls] == [1, 3, 4]
    assert {call.model for call in talk.ledger.calls} == {"first", "second"}


async def test_when_the_fallback_fails_too_the_turn_fails_with_its_reason(talk: Talk) -> None:
    talk.at("start")
    talk.script({"error": {"status": 401}})

    with pytest.raises(LLMAuthenticationFailed, match="second"):
        await talk.turn("Can you?", **with_fallback(talk))


@ANTHROPIC
async def test_a_provider_that_is_not_known_is_told_which_are(talk: Talk) -> None:
    with pytest.raises(UnknownLLMProvider, match="Known are anthropic, openai, azure"):
        await talk.turn("Hi", model=replace(model_of(talk), provider="nobody"))
