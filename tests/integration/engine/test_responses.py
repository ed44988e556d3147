"""OpenAI's Responses API: thoughts that nobody stores but the conversation, and what else it has of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.talk import RESPONSES, THERE_AND_BACK, model_of, tool
from tests.web_server import web_server
from worker.conversation.event import REPLY_STOPPED_EARLY
from worker.conversation.usage import LLMUsage
from worker.conversation.user_message import Image, UserMessage
from worker.engine import failures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk

pytestmark = RESPONSES


async def look(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return [arguments["day"], "10:00"]


async def test_tools_are_called_side_by_side_and_round_by_round_and_a_transition_is_followed(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [tool("look", look)]
    talk.script(
        {"when": {"user_contains": "And then"}, "reply": "That was it."},
        {"when": {"after_tool_result": "back"}, "reply": "Anything else?"},
        {"when": {"tool_result_contains": "Monday"}, "reply": [{"text": "No."}, {"tool": "back"}]},
        {"reply": [{"tool": "look", "input": {"day": "Monday"}}, {"tool": "look", "input": {"day": "Friday"}}]},
    )

    outcome = await talk.turn("When?")
    await talk.turn("And then?")

    assert outcome.assistant_text == "No.\n\nAnything else?"
    assert outcome.checkpoint.current_node_id == "start"
    assert list(outcome.usage.llm) == ["OpenAIResponsesHttpLLMService|||claude-sonnet-5"]
    assert [request.refused for request in talk.llm.requests] == [None] * 4
    body = talk.llm.requests[-1].body
    assert (body["instructions"], body["store"]) == ("Be kind.\n\nReceive Ada.", False)
    assert [item.get("type", item.get("role")) for item in body["input"]] == [
        "user", "function_call", "function_call", "function_call_output", "function_call_output",
        "assistant", "function_call", "function_call_output", "assistant", "user",
    ]  # fmt: skip


async def test_thoughts_go_back_before_what_they_led_to_and_the_model_is_asked_for_them(talk: Talk) -> None:
    talk.model = model_of(talk, model="gpt-5.6-sol")
    talk.at("start")
    talk.script(
        {"times": 1, "reply": [{"thinking": "A date."}, {"text": "Sure."}, {"thinking": "Two."}, {"tool": "book"}]},
        {"times": 1, "reply": [{"thinking": "Ask."}, {"text": "When?"}]},
        {"reply": "Fine."},
    )

    outcome = await talk.turn("A date")
    await talk.turn("Monday")

    assert outcome.assistant_text == "Sure.\n\nOne moment, Ada.\n\nWhen?"
    kept = [message for message in outcome.checkpoint.messages if message.get("llm") == "openai_responses"]
    assert json.loads(json.dumps(kept)) == kept
    assert [request.refused for request in talk.llm.requests] == [None] * 3  # what does not fit is refused
    body = talk.llm.requests[-1].body
    assert (body["include"], "reasoning" in body) == (["reasoning.encrypted_content"], False)
    assert [item.get("type", item.get("role")) for item in body["input"]] == [
        "user", "reasoning", "assistant", "reasoning", "function_call", "function_call_output",
        "reasoning", "assistant", "user",
    ]  # fmt: skip


async def test_a_conversation_goes_on_with_another_provider_and_comes_back(talk: Talk) -> None:
    responses = model_of(talk)
    talk.at("start")
    talk.script(*THERE_AND_BACK)
    await talk.turn("A date")
    talk.model = replace(responses, provider="openai")
    await talk.turn("Back, please")
    talk.model = responses
    outcome = await talk.turn("Hello?")

    assert outcome.assistant_text == "Here we are."
    assert [request.refused for request in talk.llm.requests] == [None] * 5
    to_openai = talk.llm.requests[2].body["messages"]
    assert (to_openai[2]["content"], to_openai[2]["tool_calls"][0]["function"]["name"]) == ("Sure.", "book")


async def test_usage_has_what_the_cache_held_in_the_prompt(talk: Talk) -> None:
    talk.at("start")
    usage = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 30}
    talk.script({"reply": [{"thinking": "Hm."}, {"text": "Yes."}], "usage": usage})

    outcome = await talk.turn("Hi")

    assert list(outcome.usage.llm.values()) == [LLMUsage(130, 20, 150, 30, 0)]


async def test_the_model_configuration_reaches_openai(talk: Talk) -> None:
    talk.at("start")
    talk.model = model_of(
        talk,
        max_tokens=77,
        temperature=0.25,
        effort="low",
        parameters={"reasoning": {"summary": "auto"}, "service_tier": "flex"},
    )

    await talk.turn("Hi")

    body = talk.llm.requests[0].body
    assert (body["max_output_tokens"], body["temperature"], body["service_tier"]) == (77, 0.25, "flex")
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize("name", ["gpt-4.1", "gpt-5-chat-latest"])
async def test_a_model_that_does_not_reason_is_not_asked_for_its_thoughts(talk: Talk, name: str) -> None:
    talk.at("start")

    await talk.turn("Hi", model=model_of(talk, model=name))

    assert talk.llm.requests[0].body.keys().isdisjoint({"include", "reasoning"})


@pytest.mark.parametrize("name", ["store", "previous_response_id", "instructions", "tools"])
async def test_parameters_that_are_the_engines_to_say_are_refused_by_name(talk: Talk, name: str) -> None:
    with pytest.raises(failures.InvalidModelParameters, match=name):
        await talk.turn("Hi", model=model_of(talk, parameters={name: "x"}))
    assert talk.llm.requests == []


async def test_images_reach_openai_and_stay_in_the_conversation(talk: Talk) -> None:
    talk.at("start")
    shown = UserMessage(
        "What is this?", (Image(media_type="image/png", data="iVBORw0KGgo="), Image(url="https://a.example/b.png"))
    )

    await talk.turn(shown)
    await talk.turn("And now?")

    for request in talk.llm.requests:
        images = [part["image_url"] for part in request.body["input"][0]["content"] if part["type"] == "input_image"]
        assert images == ["data:image/png;base64,iVBORw0KGgo=", "https://a.example/b.png"]
        assert request.refused is None


@pytest.mark.parametrize(("stop", "reason"), [("max_tokens", "max_tokens"), ("refusal", "refusal")])
async def test_a_reply_that_stopped_early_keeps_its_text_and_is_an_event_with_the_reason(
    talk: Talk, stop: str, reason: str
) -> None:
    talk.at("start")
    talk.script({"times": 1, "reply": [{"thinking": "Hm."}, {"text": "I was"}, {"tool": "book"}], "stop_reason": stop})

    outcome = await talk.turn("Go on")
    await talk.turn("And?")

    (stopped,) = [event.payload for event in outcome.events if event.type == REPLY_STOPPED_EARLY]
    assert (stopped["reason"], outcome.assistant_text) == (reason, "I was")
    assert [request.refused for request in talk.llm.requests] == [None] * 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"status": 401}, failures.LLMAuthenticationFailed),
        ({"status": 429, "retry_after": 7.5}, failures.LLMRateLimited),
        ({"status": 429, "type": "insufficient_quota"}, failures.LLMQuotaExhausted),
        ({"status": 500}, failures.LLMUnavailable),
    ],
)
async def test_an_error_is_classified_by_its_reason(
    talk: Talk, error: dict[str, Any], expected: type[failures.TurnFailed]
) -> None:
    talk.script({"error": error})

    with pytest.raises(expected, match="answered"):
        await talk.turn("Hi")

    assert len(talk.llm.requests) == 1  # the SDK tries nothing again by itself


async def test_an_error_event_in_the_middle_of_a_reply_is_known_by_its_code(talk: Talk) -> None:
    talk.script({"reply": "I was about to say", "error": {"status": 429, "after_chunks": 1}})

    with pytest.raises(failures.LLMRateLimited, match="broke off"):
        await talk.turn("Hi")


async def test_a_response_that_failed_is_no_empty_answer(talk: Talk) -> None:
    failed = {
        "type": "response.failed",
        "sequence_number": 0,
        "response": {"id": "resp_1", "object": "response", "error": {"code": "server_error", "message": "Sorry."}},
    }
    async with web_server() as server:
        server.answer("/responses", f"event: response.failed\ndata: {json.dumps(failed)}\n\n")
        with pytest.raises(failures.LLMUnavailable, match=r"broke off its reply: Sorry\."):
            await talk.turn("Hi", model=model_of(talk, base_url=server.url))


async def test_a_stream_that_ends_without_its_end_is_a_broken_one(talk: Talk) -> None:
    talk.script({"reply": "I was about to say something long enough for two chunks", "break_after": 1})

    with pytest.raises(failures.LLMStreamBroken):
        await talk.turn("Hi")


async def test_variables_are_learned_over_it_too(talk: Talk) -> None:
    talk.node("start", extraction_enabled=True, extraction_variables=[{"name": "day", "type": "string"}])
    talk.at("start")
    talk.script(
        {"when": {"user_contains": "# Variables"}, "reply": [{"thinking": "Hm."}, {"text": '{"day": "Monday"}'}]},
        {"when": {"tool_offered": "leave"}, "reply": [{"tool": "book"}]},
        {"reply": "When?"},
    )

    outcome = await talk.turn("Monday")

    assert outcome.gathered_context["day"] == "Monday"
    assert [call.purpose for call in talk.ledger.calls] == ["conversation", "extraction", "conversation"]


async def test_perplexity_searches_by_itself_and_calls_the_tools_of_the_agent(talk: Talk) -> None:
    talk.model = model_of(talk, provider="perplexity", model="openai/gpt-5.6-luna", parameters={"preset": "low"})
    talk.at("start")
    talk.script({"times": 1, "reply": [{"text": "Sure."}, {"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("A date")

    assert outcome.assistant_text == "Sure.\n\nOne moment, Ada.\n\nWhen?"
    assert list(outcome.usage.llm) == ["PerplexityAgentHttpLLMService|||openai/gpt-5.6-luna"]
    body = talk.llm.requests[0].body
    assert (body["preset"], {"type": "web_search"} in body["tools"]) == ("low", True)
    await talk.turn("And?", model=replace(talk.model, parameters={"web_search": False}))
    assert {"type": "web_search"} not in talk.llm.requests[-1].body["tools"]


async def test_a_search_that_the_server_runs_itself_is_no_call_of_a_tool(talk: Talk) -> None:
    call = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "web_search", "arguments": ""}
    results = {"id": "fc_1", "type": "search_results", "results": [], "queries": ["clinics"]}
    said = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    text = {"type": "output_text", "text": "Open until six [1].", "annotations": []}
    response = {"id": "resp_1", "object": "response", "output": [], "usage": {"input_tokens": 9, "output_tokens": 5}}
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": call},
        {"type": "response.output_item.done", "output_index": 0, "item": results},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": text["text"]},
        {"type": "response.output_item.done", "output_index": 1, "item": {**said, "content": [text]}},
        {"type": "response.completed", "response": response},
    ]
    talk.at("start")
    async with web_server() as server:
        server.answer("/responses", "".join(f"data: {json.dumps(event)}\n\n" for event in events))
        outcome = await talk.turn("When?", model=model_of(talk, provider="perplexity", base_url=server.url))

    assert outcome.assistant_text == "Open until six [1]."
    assert outcome.checkpoint.messages[-1] == {"role": "assistant", "content": "Open until six [1]."}
    assert list(outcome.usage.llm.values()) == [LLMUsage(9, 5, 14, 0, 0)]
