"""What is particular to Amazon Bedrock: its thoughts, its own parameters, its errors, what it makes of images."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.talk import AWS, ROUND_BY_ROUND, THERE_AND_BACK, model_of, tool
from tests.web_server import web_server
from worker.conversation.event import REPLY_STOPPED_EARLY
from worker.conversation.usage import LLMUsage
from worker.conversation.user_message import Image, UserMessage
from worker.engine import failures
from worker.engine.llm.aws.stream import open_stream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk

pytestmark = AWS

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


async def look(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return {"day": arguments["day"]} if arguments["day"] == "Friday" else [arguments["day"], "10:00"]


async def test_tools_are_called_side_by_side_and_round_by_round_and_a_transition_is_followed(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [tool("look", look)]
    talk.script(*ROUND_BY_ROUND)

    outcome = await talk.turn("When?")
    await talk.turn("And then?")

    assert outcome.assistant_text == "Or else:\n\nNo.\n\nAnything else?"
    assert outcome.checkpoint.current_node_id == "start"
    assert list(outcome.usage.llm) == ["AWSBedrockLLMService|||claude-sonnet-5"]
    assert [request.refused for request in talk.llm.requests] == [None] * 5
    messages = talk.llm.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == [
        "user", "assistant", "user", "assistant", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert [list(block) for block in messages[3]["content"]] == [["text"], ["toolUse"]]
    results = [block["toolResult"] for block in messages[2]["content"]]
    assert [result["content"] for result in results] == [
        [{"text": '["Monday", "10:00"]'}],
        [{"json": {"day": "Friday"}}],
    ]
    assert [result["toolUseId"] for result in results] == [
        block["toolUse"]["toolUseId"] for block in messages[1]["content"]
    ]


async def test_a_node_without_tools_is_spoken_to_although_others_were_called_before(talk: Talk) -> None:
    talk.at("book")
    talk.script({"times": 1, "reply": [{"tool": "booked"}]}, {"reply": "Goodbye."})

    outcome = await talk.turn("That is it")

    assert outcome.assistant_text == "Goodbye."
    assert [request.refused for request in talk.llm.requests] == [None] * 2


async def test_thoughts_go_back_with_their_signatures_and_in_their_places(talk: Talk) -> None:
    talk.at("start")
    talk.script(
        {
            "times": 1,
            "reply": [{"thinking": "They want a date."}, {"text": "Sure."}, {"tool": "book"}, {"tool": "fly"}],
        },
        {"times": 1, "reply": [{"thinking": "Ask when."}, {"text": "When would that be, and for how long?"}]},
        {"reply": "Fine."},
    )

    outcome = await talk.turn("A date")
    await talk.turn("Monday")

    assert outcome.assistant_text == "Sure.\n\nOne moment, Ada.\n\nWhen would that be, and for how long?"
    called, said = (message for message in outcome.checkpoint.messages if message.get("llm") == "aws")
    assert json.loads(json.dumps([called, said])) == [called, said]
    sent = [each["content"] for each in talk.llm.requests[-1].body["messages"] if each["role"] == "assistant"]
    assert [list(block) for block in sent[0]] == [["reasoningContent"], ["text"], ["toolUse"], ["toolUse"]]
    kept: Any = said["message"]
    assert sent[1] == [
        {"reasoningContent": {"reasoningText": {"text": "Ask when.", "signature": kept["content"][0]["signature"]}}},
        {"text": "When would that be, and for how long?"},
    ]
    assert [request.refused for request in talk.llm.requests] == [None] * 3  # signatures that do not fit are refused


async def test_a_conversation_goes_on_with_another_provider_and_comes_back(talk: Talk) -> None:
    bedrock = model_of(talk)
    talk.at("start")
    talk.script(*THERE_AND_BACK)
    await talk.turn("A date")

    talk.model = replace(bedrock, provider="openai", base_url=f"{talk.llm.base_url}/v1")
    await talk.turn("Back, please")
    talk.model = bedrock
    outcome = await talk.turn("Hello?")

    assert outcome.assistant_text == "Here we are."
    assert [request.refused for request in talk.llm.requests] == [None] * 5
    to_openai, to_bedrock = talk.llm.requests[2].body["messages"], talk.llm.requests[4].body["messages"]
    assert (to_openai[2]["content"], to_openai[2]["tool_calls"][0]["function"]["name"]) == ("Sure.", "book")
    assert [next(iter(block)) for block in to_bedrock[5]["content"]] == ["text", "toolUse"]


async def test_usage_has_what_the_cache_held_and_took_in_the_total(talk: Talk) -> None:
    talk.at("start")
    used = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 7}
    talk.script({"reply": "Yes.", "usage": used})

    outcome = await talk.turn("Hi")

    assert list(outcome.usage.llm.values()) == [LLMUsage(100, 20, 157, 30, 7)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"status": 400}, failures.LLMRequestInvalid),
        ({"status": 400, "message": "Input is too long for requested model."}, failures.LLMRequestTooLarge),
        ({"status": 400, "message": "The provided model identifier is invalid."}, failures.LLMNotFound),
        ({"status": 400, "type": "ServiceQuotaExceededException"}, failures.LLMQuotaExhausted),
        ({"status": 403}, failures.LLMPermissionDenied),
        ({"status": 403, "type": "UnrecognizedClientException"}, failures.LLMAuthenticationFailed),
        ({"status": 403, "type": "ExpiredTokenException"}, failures.LLMAuthenticationFailed),
        ({"status": 404}, failures.LLMNotFound),
        ({"status": 408}, failures.LLMTimeout),
        ({"status": 424}, failures.LLMUnavailable),
        ({"status": 429}, failures.LLMRateLimited),
        ({"status": 429, "type": "ModelNotReadyException"}, failures.LLMOverloaded),
        ({"status": 500}, failures.LLMUnavailable),
        ({"status": 503}, failures.LLMOverloaded),
    ],
)
async def test_an_error_is_classified_by_its_exception(
    talk: Talk, error: dict[str, Any], expected: type[failures.TurnFailed]
) -> None:
    talk.script({"error": error})

    with pytest.raises(expected, match=r"answered .* \(request req_") as failed:
        await talk.turn("Hi")

    assert type(failed.value) is expected
    assert len(talk.llm.requests) == 1  # the SDK tries nothing again by itself


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"status": 400}, failures.LLMRequestInvalid),
        ({"status": 424, "type": "ModelStreamErrorException"}, failures.LLMUnavailable),
        ({"status": 429}, failures.LLMRateLimited),
        ({"status": 503}, failures.LLMOverloaded),
    ],
)
async def test_an_error_in_the_middle_of_a_reply_is_classified_too(
    talk: Talk, error: dict[str, Any], expected: type[failures.TurnFailed]
) -> None:
    talk.script({"reply": "I was about to say", "error": {**error, "after_chunks": 1}})

    with pytest.raises(expected, match="broke off"):
        await talk.turn("Hi")


@pytest.mark.parametrize("body", ["<html>Please log in</html>", ""])
async def test_an_answer_that_is_no_stream_of_events_is_a_broken_one(talk: Talk, body: str) -> None:
    async with web_server() as server:
        server.answer("/model/claude-sonnet-5/converse-stream", body)
        with pytest.raises(failures.LLMStreamBroken, match="broke off"):
            await talk.turn("Hi", model=model_of(talk, base_url=server.url))


async def test_a_stream_that_is_closed_before_its_end_is_over_and_leaves_nothing_running(talk: Talk) -> None:
    talk.script({"reply": "abcdefgh", "chunk_characters": 1})
    hello = [{"role": "user", "content": [{"text": "Hello"}]}]
    before = asyncio.all_tasks()
    async with talk.clients.lend(model_of(talk)) as (_, client):
        stream = await open_stream(client.converse_stream, modelId="any", messages=hello)
        await anext(stream)

        await stream.close()

        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert asyncio.all_tasks() == before


async def test_an_address_that_the_sdk_does_not_take_is_a_mistake_of_the_configuration(talk: Talk) -> None:
    with pytest.raises(failures.LLMNotConfigured, match="http://our_gateway:8080"):
        await talk.turn("Hi", model=model_of(talk, base_url="http://our_gateway:8080"))


async def test_a_rejected_key_is_one_clear_message(talk: Talk) -> None:
    key = model_of(talk).api_key
    assert key is not None
    talk.script(rejected_keys=[key.get_secret_value()])

    with pytest.raises(failures.LLMAuthenticationFailed, match="make sure your API Key is valid") as failed:
        await talk.turn("Hi")

    assert key.get_secret_value() not in str(failed.value)


async def test_a_reply_that_a_filter_stopped_is_an_event_with_the_reason(talk: Talk) -> None:
    talk.script({"reply": "I was about to", "stop_reason": "refusal"})

    outcome = await talk.turn("Go on")

    (stopped,) = [event.payload for event in outcome.events if event.type == REPLY_STOPPED_EARLY]
    assert (stopped["reason"], stopped["detail"]) == ("refusal", "content_filtered")


async def test_images_reach_bedrock_and_stay_in_the_conversation(talk: Talk) -> None:
    talk.at("start")
    shown = UserMessage("What is this?", (Image(media_type="image/png", data="iVBORw0KGgo="),))

    await talk.turn(shown)
    await talk.turn("And now?")

    for request in talk.llm.requests:
        assert request.body["messages"][0]["content"] == [
            {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
            {"text": "What is this?"},
        ]
    assert talk.checkpoint.messages[0]["content"] == shown.content


async def test_an_image_by_its_address_is_refused_and_not_kept_from_the_model_in_silence(talk: Talk) -> None:
    with pytest.raises(failures.LLMRequestInvalid, match=r"a\.example/b\.png .* `media_type` and `data`"):
        await talk.turn(UserMessage("What is this?", (Image(url="https://a.example/b.png"),)))
    assert talk.llm.requests == []


async def test_the_model_configuration_reaches_bedrock(talk: Talk) -> None:
    parameters: dict[str, JsonValue] = {
        "inferenceConfig": {"topP": 0.5, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"top_k": 50},
        "performanceConfig": {"latency": "optimized"},
    }
    talk.at("start")
    talk.model = model_of(talk, model=CLAUDE, max_tokens=77, temperature=0.25, effort="minimal", parameters=parameters)

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    assert (request.path, request.model) == (f"/model/{CLAUDE}/converse-stream", CLAUDE)
    assert request.body["inferenceConfig"] == {
        "maxTokens": 77, "temperature": 0.25, "topP": 0.5, "stopSequences": ["END"],
    }  # fmt: skip
    assert request.body["additionalModelRequestFields"] == {"top_k": 50}
    assert request.body["performanceConfig"] == {"latency": "optimized"}
    assert request.body["outputConfig"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("name", "wanted", "marked"),
    [
        (CLAUDE, True, True),
        (CLAUDE, False, False),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", True, True),
        ("anthropic.claude-3-haiku-20240307-v1:0", True, False),
        ("us.amazon.nova-pro-v1:0", True, False),
    ],
)
async def test_the_prompt_is_marked_for_the_cache_where_the_model_takes_the_mark(
    talk: Talk, name: str, *, wanted: bool, marked: bool
) -> None:
    talk.at("start")

    await talk.turn("Hi", model=model_of(talk, model=name, prompt_caching=wanted))

    body = talk.llm.requests[0].body
    found = ["cachePoint" in part[-1] for part in (body["system"], body["toolConfig"]["tools"])]
    assert found == [marked, marked]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"modelId": "another"}, "modelId"),
        ({"toolConfig": {}}, "toolConfig"),
        ({"topP": 0.5}, "topP"),
        ({"inferenceConfig": {"topP": "half"}}, r"inferenceConfig\.topP"),
        ({"inferenceConfig": {"made_up": 1}}, "made_up"),
    ],
)
async def test_parameters_that_are_none_or_not_theirs_to_say_are_refused_by_name(
    talk: Talk, parameters: dict[str, JsonValue], named: str
) -> None:
    with pytest.raises(failures.InvalidModelParameters, match=named):
        await talk.turn("Hi", model=model_of(talk, parameters=parameters))
    assert talk.llm.requests == []


async def test_a_request_that_the_sdk_refuses_is_an_invalid_one(talk: Talk) -> None:
    talk.at("start")
    talk.tools.by_node["start"] = [replace(tool("look", look), description="")]

    with pytest.raises(failures.LLMRequestInvalid, match="description"):
        await talk.turn("Hi")


async def test_nothing_of_the_environment_or_the_home_directory_leads_a_request_elsewhere(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nendpoint_url = http://127.0.0.1:1\nuse_fips_endpoint = true\n"
    )
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = the-operators\n")
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "the-operators",
        "AWS_BEARER_TOKEN_BEDROCK": "the-operators",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_PROFILE": "missing",
        "AWS_REGION": "eu-west-3",
        "AWS_SECRET_ACCESS_KEY": "the-operators",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    key = model_of(talk).api_key
    assert key is not None
    assert (request.api_key, "the-operators" in str(request.headers)) == (key.get_secret_value(), False)
