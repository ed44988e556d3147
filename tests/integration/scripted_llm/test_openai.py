from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from tests.integration.scripted_llm.talk import HELLO, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import AsyncOpenAI

    from worker.embedded.scripted_llm import ScriptedLLM

MODEL = "gpt-5"
SCHEMA = {"type": "object", "properties": {}}


def call(identifier: str, name: str = "look") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": "{}"}}


def assistant(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(identifier: str, content: str = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": content}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}


async def asked(client: AsyncOpenAI, messages: list[Any] = HELLO, **options: Any) -> Any:
    return await client.post(
        "/chat/completions", body={"model": MODEL, "messages": messages, **options}, cast_to=dict[str, Any]
    )


async def note_text(client: AsyncOpenAI, note: Callable[[str], None]) -> None:
    async for chunk in await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            note(chunk.choices[0].delta.content)


async def test_a_completion_carries_text_finish_reason_and_usage(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    completion = await gpt.chat.completions.create(model=MODEL, messages=HELLO)

    assert completion.choices[0].message.content == "You said: Hello"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == MODEL
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0
    assert llm.requests[0].api_key == "test-key"


async def test_a_streamed_completion_comes_in_the_form_of_the_real_api(llm: ScriptedLLM) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 4})
    async with httpx2.AsyncClient() as http:
        reply = await http.post(
            f"{llm.base_url}/v1/chat/completions",
            json={"model": MODEL, "messages": HELLO, "stream": True},
            headers={"authorization": "Bearer k"},
        )

    assert reply.headers["x-request-id"].startswith("req_")
    *lines, done = [line.removeprefix("data: ") for line in reply.text.strip().split("\n\n")]
    chunks = [json.loads(line) for line in lines]
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "abcd"},
        {"content": "ef"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in chunks)


async def test_parallel_tool_calls_are_streamed_by_index(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    reply = [{"thinking": "Two things."}, {"text": "Let me look."}, {"tool": "weather", "input": {"city": "Köln"}}]
    play(llm, {"reply": [*reply, {"tool": "clock"}], "chunk_characters": 5})

    async with gpt.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        completion = await stream.get_final_completion()

    message = completion.choices[0].message
    assert message.content == "Let me look."
    assert message.tool_calls is not None
    assert [(made.function.name, json.loads(made.function.arguments)) for made in message.tool_calls] == [
        ("weather", {"city": "Köln"}),
        ("clock", {}),
    ]
    assert len({made.id for made in message.tool_calls}) == 2
    assert completion.choices[0].finish_reason == "tool_calls"


async def test_a_tool_result_can_be_answered(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(
        llm,
        {"when": {"after_tool_result": "weather"}, "reply": "It is {tool_result}, {user}"},
        {"when": {"system_contains": "friendly", "tool_offered": "weather"}, "reply": [{"tool": "weather"}]},
    )
    system: Any = {"role": "system", "content": "Be friendly"}
    offered: Any = [tool("weather")]

    first = await gpt.chat.completions.create(model=MODEL, messages=[system, *HELLO], tools=offered)
    made = first.choices[0].message
    assert made.tool_calls is not None
    answered: Any = [system, *HELLO, made.model_dump(exclude_none=True), result(made.tool_calls[0].id, "sunny")]
    second = await gpt.chat.completions.create(model=MODEL, messages=answered, tools=offered)

    assert second.choices[0].message.content == "It is sunny, Hello"


@pytest.mark.parametrize("stream", [True, False])
async def test_scripted_usage_counts_the_cache_into_the_prompt(
    llm: ScriptedLLM, gpt: AsyncOpenAI, *, stream: bool
) -> None:
    usage = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}
    play(llm, {"reply": [{"thinking": "four"}, {"text": "Hello"}], "usage": usage})

    if stream:
        chunks = [
            chunk
            async for chunk in await gpt.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        ]
        reported = chunks[-1].usage
        assert chunks[-1].choices == []
        assert all(chunk.usage is None for chunk in chunks[:-1])
    else:
        reported = (await gpt.chat.completions.create(model=MODEL, messages=HELLO)).usage

    assert reported is not None
    assert (reported.prompt_tokens, reported.completion_tokens, reported.total_tokens) == (17, 20, 37)
    assert reported.prompt_tokens_details is not None
    assert reported.prompt_tokens_details.cached_tokens == 5
    assert reported.completion_tokens_details is not None
    assert reported.completion_tokens_details.reasoning_tokens == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reason", "expected"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"), ("stop_sequence", "stop")],
)
async def test_a_scripted_stop_reason_becomes_openais_word(
    llm: ScriptedLLM, gpt: AsyncOpenAI, reason: str, expected: str, *, stream: bool
) -> None:
    play(llm, {"reply": "Well", "stop_reason": reason})

    if stream:
        chunks = [chunk async for chunk in await gpt.chat.completions.create(model=MODEL, messages=HELLO, stream=True)]
        found = chunks[-1].choices[0].finish_reason
    else:
        found = (await gpt.chat.completions.create(model=MODEL, messages=HELLO)).choices[0].finish_reason

    assert found == expected


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_reply_has_no_content(llm: ScriptedLLM, gpt: AsyncOpenAI, *, stream: bool) -> None:
    play(llm, {"reply": []})

    if stream:
        seen: list[str] = []
        await note_text(gpt, seen.append)
        assert seen == []
    else:
        completion = await gpt.chat.completions.create(model=MODEL, messages=HELLO)
        assert completion.choices[0].message.content is None


@pytest.mark.parametrize(
    ("error", "expected", "kind", "code"),
    [
        ({"status": 400}, openai.BadRequestError, "invalid_request_error", None),
        ({"status": 401, "code": "invalid_api_key"}, openai.AuthenticationError, None, "invalid_api_key"),
        ({"status": 403}, openai.PermissionDeniedError, "invalid_request_error", None),
        ({"status": 404}, openai.NotFoundError, "invalid_request_error", "model_not_found"),
        ({"status": 429}, openai.RateLimitError, "requests", "rate_limit_exceeded"),
        ({"status": 429, "type": "insufficient_quota"}, openai.RateLimitError, None, "insufficient_quota"),
        ({"status": 500}, openai.InternalServerError, "server_error", None),
        ({"status": 503}, openai.InternalServerError, "server_error", None),
    ],
)
async def test_every_status_comes_in_openais_form(
    llm: ScriptedLLM,
    gpt: AsyncOpenAI,
    error: dict[str, Any],
    expected: type[openai.APIStatusError],
    *,
    kind: str | None,
    code: str | None,
) -> None:
    play(llm, {"error": {"message": "Not today", "retry_after": 7, **error}})

    with pytest.raises(expected, match="Not today") as caught:
        await gpt.chat.completions.create(model=MODEL, messages=HELLO)

    assert caught.value.type == (kind or error.get("type", "invalid_request_error"))
    assert caught.value.code == code
    assert caught.value.response.headers["retry-after"] == "7"


async def test_an_error_in_mid_stream_comes_after_the_text_so_far(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 2, "error": {"status": 500, "message": "Oh", "after_chunks": 2}})
    seen: list[str] = []

    with pytest.raises(openai.APIError, match="Oh"):
        await note_text(gpt, seen.append)

    assert seen == ["ab", "cd"]


async def test_a_stream_that_breaks_off_is_a_lost_connection(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 2, "break_after": 2})
    seen: list[str] = []

    with pytest.raises(openai.APIConnectionError):
        await note_text(gpt, seen.append)

    assert seen == ["ab", "cd"]


REFUSED: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "no model": ({"model": ""}, "you must provide a model parameter", None),
    "no messages": ({"messages": []}, "Invalid 'messages': empty array.", "messages"),
    "messages that are no list": ({"messages": "Hello"}, "Invalid type for 'messages'", "messages"),
    "a message that is no object": ({"messages": ["Hello"]}, "Invalid type for 'messages[0]'", "messages[0]"),
    "a message without a role": (
        {"messages": [{"content": "Hello"}]},
        "Missing required parameter: 'messages[0].role'.",
        "messages[0].role",
    ),
    "an unknown role": (
        {"messages": [{"role": "robot", "content": "Hello"}]},
        "Invalid value: 'robot'. Supported values are: 'system', 'assistant', 'user'",
        "messages[0].role",
    ),
    "no content": (
        {"messages": [{"role": "user", "content": None}]},
        "Invalid value for 'content': expected a string, got null.",
        "messages.[0].content",
    ),
    "an assistant that says and calls nothing": (
        {"messages": [*HELLO, {"role": "assistant", "content": None}]},
        "Invalid value for 'content': expected a string, got null.",
        "messages.[1].content",
    ),
    "content that is a number": (
        {"messages": [{"role": "user", "content": 7}]},
        "Invalid type for 'content'",
        "messages.[0].content",
    ),
    "a content part without a type": (
        {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]},
        "Missing required parameter: 'type'",
        "messages.[0].content",
    ),
    "a text part without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "Missing required parameter: 'text'",
        "messages.[0].content",
    ),
    "an empty list of calls": (
        {"messages": [*HELLO, assistant()]},
        "Invalid 'messages[1].tool_calls': empty array.",
        "messages[1].tool_calls",
    ),
    "calls that are no list": (
        {"messages": [*HELLO, assistant() | {"tool_calls": {}}]},
        "Invalid type for 'messages[1].tool_calls'",
        "messages[1].tool_calls",
    ),
    "a call without an id": (
        {"messages": [*HELLO, assistant({"function": {"name": "look", "arguments": "{}"}})]},
        "Missing required parameter: 'messages[1].tool_calls[0].id'",
        "messages[1].tool_calls",
    ),
    "a call with arguments that are no text": (
        {"messages": [*HELLO, assistant({"id": "a", "function": {"name": "look", "arguments": {}}})]},
        "Invalid type for 'messages[1].tool_calls[0].function.arguments'",
        "messages[1].tool_calls",
    ),
    "a call of an illegal name": (
        {"messages": [*HELLO, assistant(call("a", "look up"))]},
        "Invalid 'messages[1].tool_calls[0].function.name': string does not match pattern.",
        "messages[1].tool_calls[0].function.name",
    ),
    "a call without its result": (
        {"messages": [*HELLO, assistant(call("a")), *HELLO]},
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
        "messages.[2].role",
    ),
    "a call at the end": (
        {"messages": [*HELLO, assistant(call("a"))]},
        "An assistant message with 'tool_calls' must be followed",
        "messages.[2].role",
    ),
    "a result of no call": (
        {"messages": [*HELLO, result("a")]},
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
        "messages.[1].role",
    ),
    "a result of another call": (
        {"messages": [*HELLO, assistant(call("a")), result("b")]},
        "Invalid parameter: 'tool_call_id' of 'b' not found in 'tool_calls' of previous message.",
        "messages.[2].tool_call_id",
    ),
    "two results of one call": (
        {"messages": [*HELLO, assistant(call("a")), result("a"), result("a")]},
        "Duplicate value for 'tool_call_id' of 'a'.",
        "messages.[3].tool_call_id",
    ),
    "a result without an id": (
        {"messages": [*HELLO, assistant(call("a")), {"role": "tool", "content": "done"}]},
        "Missing parameter 'tool_call_id'",
        "messages.[2].tool_call_id",
    ),
    "a result without content": (
        {"messages": [*HELLO, assistant(call("a")), result("a") | {"content": None}]},
        "Invalid value for 'content': expected a string, got null.",
        "messages.[2].content",
    ),
    "no tools in the list": ({"tools": []}, "Invalid 'tools': empty array.", "tools"),
    "tools that are no list": ({"tools": {}}, "Invalid type for 'tools'", "tools"),
    "a tool of another type": ({"tools": [{"type": "song"}]}, "Invalid value for 'tools[0].type'", "tools[0].type"),
    "a tool without a function": (
        {"tools": [{"type": "function"}]},
        "Missing required parameter: 'tools[0].function'.",
        "tools[0].function",
    ),
    "a tool without a name": (
        {"tools": [{"type": "function", "function": {}}]},
        "Missing required parameter: 'tools[0].function.name'.",
        "tools[0].function.name",
    ),
    "a tool name with a space": (
        {"tools": [tool("look up")]},
        "Invalid 'tools[0].function.name': string does not match pattern.",
        "tools[0].function.name",
    ),
    "a tool name of 65 letters": (
        {"tools": [tool("x" * 65)]},
        "Invalid 'tools[0].function.name': string too long.",
        "tools[0].function.name",
    ),
    "a tool choice without tools": (
        {"tool_choice": "auto"},
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
        "tool_choice",
    ),
    "stream options without a stream": (
        {"stream_options": {"include_usage": True}},
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        "stream_options",
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "an empty text": {"messages": [{"role": "user", "content": ""}]},
    "the assistant last": {"messages": [*HELLO, {"role": "assistant", "content": "Hi"}]},
    "the system last": {"messages": [*HELLO, {"role": "system", "content": "Be nice"}]},
    "content in parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
    "two tools of one name": {"tools": [tool("look"), tool("look")]},
    "a tool name of 64 letters": {"tools": [tool("x" * 64)]},
}


@pytest.mark.parametrize(("options", "sentence", "param"), REFUSED.values(), ids=REFUSED)
async def test_a_request_that_breaks_a_rule_is_refused(
    gpt: AsyncOpenAI, options: dict[str, Any], sentence: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await asked(gpt, **options)

    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"].startswith(sentence)
    assert caught.value.param == param


async def test_a_request_without_messages_is_refused(gpt: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Missing required parameter: 'messages'"):
        await gpt.post("/chat/completions", body={"model": MODEL}, cast_to=dict[str, Any])


async def test_a_body_that_is_no_object_is_refused(gpt: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="We could not parse the JSON body"):
        await gpt.post("/chat/completions", body=[1], cast_to=dict[str, Any])


@pytest.mark.parametrize("options", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_the_real_api_accepts_is_accepted(gpt: AsyncOpenAI, options: dict[str, Any]) -> None:
    assert (await asked(gpt, **options))["object"] == "chat.completion"


async def test_a_key_that_the_script_rejects_is_unauthorized(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(llm, {"reply": "Welcome"}, rejected_keys=["sk-stolen"])

    with pytest.raises(openai.AuthenticationError, match=r"Incorrect API key provided: \*{5}olen") as caught:
        await asked(gpt.with_options(api_key="sk-stolen"))

    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic abc"}])
async def test_a_request_without_a_key_is_unauthorized(llm: ScriptedLLM, headers: dict[str, str]) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(f"{llm.base_url}/v1/chat/completions", json={}, headers=headers)

    assert reply.status_code == 401
    assert reply.json()["error"]["message"].startswith("You didn't provide an API key.")
