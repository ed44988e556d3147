"""What is particular to Gemini: its signatures, its own parameters, its errors, what it makes of images."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.talk import GOOGLE, ROUND_BY_ROUND, THERE_AND_BACK, model_of, tool
from worker.conversation.event import REPLY_STOPPED_EARLY
from worker.conversation.usage import LLMUsage
from worker.conversation.user_message import Image, UserMessage
from worker.engine import failures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk

pytestmark = GOOGLE


async def look(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return [arguments["day"], "10:00"]


async def test_tools_are_called_side_by_side_and_round_by_round_and_a_transition_is_followed(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [tool("look", look)]
    talk.script(*ROUND_BY_ROUND)

    outcome = await talk.turn("When?")
    await talk.turn("And then?")

    assert outcome.assistant_text == "Or else:\n\nNo.\n\nAnything else?"
    assert outcome.checkpoint.current_node_id == "start"
    assert list(outcome.usage.llm) == ["GoogleLLMService|||claude-sonnet-5"]
    assert [request.refused for request in talk.llm.requests] == [None] * 5
    contents = talk.llm.requests[-1].body["contents"]
    assert [content["role"] for content in contents] == [
        "user", "model", "user", "model", "user", "model", "user", "model", "user",
    ]  # fmt: skip
    answers = [part["functionResponse"] for part in contents[2]["parts"]]
    assert [(answer["name"], answer["response"]) for answer in answers] == [
        ("look", {"value": ["Monday", "10:00"]}),
        ("look", {"value": ["Friday", "10:00"]}),
    ]
    assert [answer["id"] for answer in answers] == [part["functionCall"]["id"] for part in contents[1]["parts"]]


async def test_signatures_of_thoughts_go_back_with_the_parts_they_came_with(talk: Talk) -> None:
    thinks, calls_twice = [{"thinking": "They want a date."}, {"text": "Sure."}], [{"tool": "book"}, {"tool": "fly"}]
    talk.at("start")
    talk.script(
        {"times": 1, "reply": [*thinks, {"thinking": "Two ways."}, *calls_twice]},
        {"times": 1, "reply": [{"thinking": "Ask when."}, {"text": "When would that be, and for how long?"}]},
        {"reply": "Fine."},
    )

    outcome = await talk.turn("A date")
    await talk.turn("Monday")

    assert outcome.assistant_text == "Sure.\n\nOne moment, Ada.\n\nWhen would that be, and for how long?"
    called, said = (message for message in outcome.checkpoint.messages if message.get("llm") == "google")
    assert json.loads(json.dumps(called)) == called
    sent = [content["parts"] for content in talk.llm.requests[-1].body["contents"] if content["role"] == "model"]
    assert [list(part) for part in sent[0]] == [
        ["text", "thought"], ["text"], ["text", "thoughtSignature"],
        ["text", "thought"], ["functionCall", "thoughtSignature"], ["functionCall"],
    ]  # fmt: skip
    assert [part.get("text") for part in sent[1]] == ["Ask when.", "When would that be, and for how long?", ""]
    kept: Any = said["message"]
    assert [part.get("thought_signature") for part in kept["parts"]] == [
        part.get("thoughtSignature") for part in sent[1]
    ]
    assert [request.refused for request in talk.llm.requests] == [None] * 3


async def test_a_conversation_goes_on_with_another_provider_and_comes_back(talk: Talk) -> None:
    google = model_of(talk)
    talk.at("start")
    talk.script(*THERE_AND_BACK)
    await talk.turn("A date")

    talk.model = replace(google, provider="openai", base_url=f"{talk.llm.base_url}/v1")
    await talk.turn("Back, please")
    talk.model = google
    outcome = await talk.turn("Hello?")

    assert outcome.assistant_text == "Here we are."
    assert [request.refused for request in talk.llm.requests] == [None] * 5
    to_openai, to_google = talk.llm.requests[2].body["messages"], talk.llm.requests[4].body["contents"]
    assert (to_openai[2]["content"], to_openai[2]["tool_calls"][0]["function"]["name"]) == ("Sure.", "book")
    assert [next(iter(part)) for part in to_google[5]["parts"]] == ["text", "functionCall"]


async def test_usage_has_thinking_with_the_reply_and_the_cache_with_the_prompt(talk: Talk) -> None:
    talk.at("start")
    talk.script(
        {
            "reply": [{"thinking": "Hm, hm."}, {"text": "Yes."}],
            "usage": {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 30},
        }
    )

    outcome = await talk.turn("Hi")

    assert list(outcome.usage.llm.values()) == [LLMUsage(130, 20, 150, 30, 0)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"status": 400}, failures.LLMRequestInvalid),
        ({"status": 400, "code": "API_KEY_INVALID"}, failures.LLMAuthenticationFailed),
        ({"status": 400, "type": "FAILED_PRECONDITION"}, failures.LLMQuotaExhausted),
        (
            {"status": 400, "message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."},
            failures.LLMRequestTooLarge,
        ),
        ({"status": 401}, failures.LLMAuthenticationFailed),
        ({"status": 403}, failures.LLMPermissionDenied),
        ({"status": 404}, failures.LLMNotFound),
        ({"status": 429}, failures.LLMRateLimited),
        ({"status": 500}, failures.LLMUnavailable),
        ({"status": 503}, failures.LLMOverloaded),
        ({"status": 504}, failures.LLMTimeout),
    ],
)
async def test_an_error_is_classified_by_its_reason(
    talk: Talk, error: dict[str, Any], expected: type[failures.TurnFailed]
) -> None:
    talk.script({"error": error})

    with pytest.raises(expected, match="answered"):
        await talk.turn("Hi")

    assert len(talk.llm.requests) == 1  # the SDK tries nothing again by itself


async def test_a_delay_that_the_error_asks_for_is_the_failures(talk: Talk) -> None:
    talk.script({"error": {"status": 429, "retry_after": 7.5}})

    with pytest.raises(failures.LLMRateLimited) as failed:
        await talk.turn("Hi")

    assert failed.value.retry_after_seconds == 7.5


async def test_an_error_in_the_middle_of_a_reply_is_known_by_its_status(talk: Talk) -> None:
    talk.script({"reply": "I was about to say", "error": {"status": 503, "after_chunks": 1}})

    with pytest.raises(failures.LLMOverloaded, match="broke off"):
        await talk.turn("Hi")


async def test_a_rejected_key_is_one_clear_message(talk: Talk) -> None:
    key = model_of(talk).api_key
    assert key is not None
    talk.script(rejected_keys=[key.get_secret_value()])

    with pytest.raises(failures.LLMAuthenticationFailed, match="API key not valid") as failed:
        await talk.turn("Hi")

    assert key.get_secret_value() not in str(failed.value)


async def test_a_reply_stopped_for_safety_is_an_event_with_the_reason(talk: Talk) -> None:
    talk.script({"reply": "I was about to", "stop_reason": "refusal"})

    outcome = await talk.turn("Go on")

    (stopped,) = [event.payload for event in outcome.events if event.type == REPLY_STOPPED_EARLY]
    assert (stopped["reason"], stopped["detail"]) == ("refusal", "safety")


async def test_images_reach_gemini_and_stay_in_the_conversation(talk: Talk) -> None:
    talk.at("start")
    shown = UserMessage(
        "What is this?",
        (Image(media_type="image/png", data="iVBORw0KGgo="), Image(url="https://a.example/b.png")),
    )

    await talk.turn(shown)
    await talk.turn("And now?")

    for request in talk.llm.requests:
        parts = request.body["contents"][0]["parts"]
        assert parts[0]["inlineData"] == {"mime_type": "image/png", "data": "iVBORw0KGgo="}
        assert parts[1]["fileData"] == {"mime_type": "image/png", "file_uri": "https://a.example/b.png"}
        assert parts[2] == {"text": "What is this?"}
    assert len(talk.llm.requests[0].body["contents"]) == 1
    assert talk.checkpoint.messages[0]["content"] == shown.content


async def test_the_model_configuration_reaches_gemini(talk: Talk) -> None:
    talk.at("start")
    talk.model = model_of(talk, max_tokens=77, temperature=0.25, parameters={"topP": 0.5, "stop_sequences": ["END"]})

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    assert request.path == "/v1beta/models/claude-sonnet-5:streamGenerateContent"
    assert request.body["generationConfig"] == {
        "maxOutputTokens": 77, "temperature": 0.25, "topP": 0.5, "stopSequences": ["END"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "effort", "thinking"),
    [
        ("gemini-3.6-flash", "low", {"thinking_level": "LOW"}),
        ("gemini-3.6-flash", "max", {"thinking_level": "HIGH"}),
        ("gemini-2.5-flash", "medium", {"thinking_budget": 8192}),
        ("gemini-2.5-flash", None, {"thinking_budget": 0}),
    ],
)
async def test_effort_is_said_as_the_model_takes_it(
    talk: Talk, name: str, effort: str | None, thinking: dict[str, object]
) -> None:
    talk.at("start")

    await talk.turn("Hi", model=model_of(talk, model=name, effort=effort))

    assert talk.llm.requests[0].body["generationConfig"]["thinkingConfig"] == thinking


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"httpOptions": {"base_url": "http://elsewhere.example"}}, "http_options"),
        ({"systemInstruction": "Be rude."}, "system_instruction"),
        ({"toolConfig": {}}, "tool_config"),
        ({"made_up": 1}, "made_up"),
        ({"thinkingConfig": {"how_much": 1}}, "thinkingConfig.how_much"),
    ],
)
async def test_parameters_that_are_none_or_not_theirs_to_say_are_refused_by_name(
    talk: Talk, parameters: dict[str, JsonValue], named: str
) -> None:
    with pytest.raises(failures.InvalidModelParameters, match=named):
        await talk.turn("Hi", model=model_of(talk, parameters=parameters))
    assert talk.llm.requests == []


async def test_tools_are_declared_by_json_schema_and_without_parameters_where_they_take_none(talk: Talk) -> None:
    day: dict[str, JsonValue] = {"oneOf": [{"type": "string", "format": "date"}, {"const": "today"}]}
    talk.at("book")
    talk.tools.by_node["book"] = [replace(tool("look", look), properties={"day": day}, required=("day",))]

    await talk.turn("When?")

    (request,) = talk.llm.requests
    declared = {each["name"]: each for each in request.body["tools"][0]["functionDeclarations"]}
    schema = declared["look"]["parameters_json_schema"]
    assert (schema["properties"], schema["required"]) == ({"day": day}, ["day"])
    assert declared["back"].keys() == {"name", "description"}


@pytest.mark.parametrize("name", ["gemini..flash", "gemini?alt=json", "gemini flash", "models/../files/1", ""])
async def test_what_cannot_be_the_name_of_a_model_is_refused_as_it_is(talk: Talk, name: str) -> None:
    with pytest.raises(failures.InvalidModelParameters, match="cannot be the name"):
        await talk.turn("Hi", model=model_of(talk, model=name))
    assert talk.llm.requests == []


async def test_nothing_of_the_environment_leads_a_request_elsewhere(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GEMINI_API_KEY": "the-operators",
        "GOOGLE_CLOUD_LOCATION": "europe-west3",
        "GOOGLE_CLOUD_PROJECT": "the-operators",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
    }.items():
        monkeypatch.setenv(name, value)

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    key = model_of(talk).api_key
    assert key is not None
    assert (request.api_key, "the-operators" in str(request.headers)) == (key.get_secret_value(), False)
