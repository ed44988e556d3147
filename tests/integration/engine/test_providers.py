"""Every provider that a configuration may name holds a conversation with tools, through pipecat's own service for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.integration.engine.talk import ANTHROPIC, OPENAI, tool
from worker.engine.failures import LLMAuthenticationFailed, LLMUnavailable, UnknownLLMProvider
from worker.workflow.llm_providers import LLM_PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.engine.request import ResolvedModel

REPORT_USAGE_UNASKED = {"fireworks", "mistral"}
"""They do not take the option that asks for it, so the scripted LLM does not report any."""
COMPATIBLE = sorted(LLM_PROVIDERS.keys() - {"anthropic", "openai", "google", "aws"})


async def look(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return {"day": arguments["day"], "times": ["10:00"]}


def model_of(talk: Talk) -> ResolvedModel:
    assert talk.model is not None
    return talk.model


@OPENAI
@pytest.mark.parametrize("name", COMPATIBLE)
async def test_a_provider_with_openais_protocol_answers_calls_tools_and_follows_transitions(
    talk: Talk, name: str
) -> None:
    talk.model = replace(model_of(talk), provider=name)
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


@ANTHROPIC
async def test_effort_and_caching_reach_anthropic(talk: Talk) -> None:
    talk.at("start")
    await talk.turn("Hi")
    talk.model = replace(model_of(talk), effort="low", prompt_caching=False)
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
