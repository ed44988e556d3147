from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from tests.integration.scripted_llm.talk import ANTHROPIC_HEADERS, HELLO, MODEL, play, streamed, text_of

if TYPE_CHECKING:
    from worker.embedded.scripted_llm import ScriptedLLM


async def test_without_a_script_it_repeats_what_the_user_says(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    message = await streamed(claude)

    assert text_of(message) == "You said: Hello"
    assert message.stop_reason == "end_turn"
    assert message.model == MODEL


async def test_a_streamed_text_comes_in_the_order_and_form_of_the_real_api(llm: ScriptedLLM) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 4})
    request = {"model": MODEL, "max_tokens": 9, "messages": HELLO, "stream": True}
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{llm.base_url}/v1/messages", json=request, headers=ANTHROPIC_HEADERS)

    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["request-id"].startswith("req_")
    frames = [frame.split("\n") for frame in reply.text.strip().split("\n\n")]
    names = [name.removeprefix("event: ") for name, _ in frames]
    data = [json.loads(line.removeprefix("data: ")) for _, line in frames]
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [item["type"] for item in data] == names
    assert data[0]["message"] | {"id": "", "usage": {}} == {
        "id": "",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {},
    }
    assert data[1] == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert [item["delta"] for item in data[3:5]] == [
        {"type": "text_delta", "text": "abcd"},
        {"type": "text_delta", "text": "ef"},
    ]
    assert data[6]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


@pytest.mark.parametrize("stream", [True, False])
async def test_thinking_text_and_parallel_tool_calls_arrive_whole(
    llm: ScriptedLLM, claude: AsyncAnthropic, *, stream: bool
) -> None:
    play(
        llm,
        {
            "reply": [
                {"thinking": "The user wants two things at once."},
                {"text": "Let me look."},
                {"tool": "weather", "input": {"city": "Köln", "days": 3}},
                {"tool": "clock"},
            ],
            "chunk_characters": 5,
        },
    )

    if stream:
        message = await streamed(claude)
    else:
        message = await claude.messages.create(model=MODEL, max_tokens=100, messages=HELLO)

    thinking, text, weather, clock = message.content
    assert isinstance(thinking, ThinkingBlock)
    assert thinking.thinking == "The user wants two things at once."
    assert thinking.signature
    assert isinstance(text, TextBlock)
    assert text.text == "Let me look."
    assert isinstance(weather, ToolUseBlock)
    assert (weather.name, weather.input) == ("weather", {"city": "Köln", "days": 3})
    assert isinstance(clock, ToolUseBlock)
    assert (clock.name, clock.input) == ("clock", {})
    assert weather.id != clock.id
    assert weather.id.startswith("toolu_")
    assert message.stop_reason == "tool_use"


async def test_a_reply_can_be_sent_back_with_its_thinking_and_tool_results(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(
        llm,
        {"when": {"after_tool_result": "weather"}, "reply": "It is {tool_result}."},
        {"reply": [{"thinking": "I need the weather."}, {"tool": "weather"}]},
    )
    asked = await streamed(claude)
    call = asked.content[1]
    assert isinstance(call, ToolUseBlock)

    answered = await streamed(
        claude,
        [
            *HELLO,
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in asked.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
        ],
    )

    assert text_of(answered) == "It is sunny."


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_reply_has_no_content_and_ends_normally(
    llm: ScriptedLLM, claude: AsyncAnthropic, *, stream: bool
) -> None:
    play(llm, {"reply": []})

    if stream:
        message = await streamed(claude)
    else:
        message = await claude.messages.create(model=MODEL, max_tokens=100, messages=HELLO)

    assert message.content == []
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "stop_sequence", "pause_turn"])
async def test_a_scripted_stop_reason_is_reported(llm: ScriptedLLM, claude: AsyncAnthropic, reason: str) -> None:
    play(llm, {"reply": "I will not", "stop_reason": reason})

    assert (await streamed(claude)).stop_reason == reason


async def test_usage_grows_with_the_lengths_of_request_and_reply(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    short = (await streamed(claude)).usage
    long = (await streamed(claude, "Hello " * 100)).usage

    assert 0 < short.input_tokens < long.input_tokens
    assert 0 < short.output_tokens < long.output_tokens
    assert (short.cache_read_input_tokens, short.cache_creation_input_tokens) == (0, 0)
    assert (await streamed(claude)).usage == short


@pytest.mark.parametrize("stream", [True, False])
async def test_scripted_usage_replaces_the_estimate(llm: ScriptedLLM, claude: AsyncAnthropic, *, stream: bool) -> None:
    usage = {
        "input_tokens": 11,
        "output_tokens": 22,
        "cache_read_input_tokens": 33,
        "cache_creation_input_tokens": 44,
    }
    play(llm, {"reply": "Hello", "usage": usage})

    if stream:
        message = await streamed(claude)
    else:
        message = await claude.messages.create(model=MODEL, max_tokens=100, messages=HELLO)

    assert message.usage.model_dump(include=set(usage)) == usage


async def test_tokens_can_be_counted_without_asking_the_model(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    short = await claude.messages.count_tokens(model=MODEL, messages=HELLO)
    long = await claude.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hello " * 100}])

    assert 0 < short.input_tokens < long.input_tokens
    assert llm.requests == []


@pytest.mark.parametrize(
    ("pace", "at_least"),
    [({"delay_seconds": 0.05}, 0.05), ({"seconds_per_chunk": 0.02}, 0.06)],
    ids=["delay", "chunks"],
)
async def test_a_slow_reply_takes_its_time_and_arrives_whole(
    llm: ScriptedLLM, claude: AsyncAnthropic, pace: dict[str, float], at_least: float
) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 2, **pace})

    started = time.monotonic()
    message = await streamed(claude)

    assert time.monotonic() - started >= at_least
    assert text_of(message) == "abcdef"


async def test_the_client_sees_the_first_chunk_while_the_rest_is_held(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 2, "hold": "rest", "hold_after": 1})

    async with claude.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        pieces = []
        async for piece in stream.text_stream:
            pieces.append(piece)
            if piece == "ab":
                llm.release("rest")

    assert pieces == ["ab", "cd", "ef"]


async def test_a_bearer_token_is_accepted_in_place_of_a_key(llm: ScriptedLLM) -> None:
    async with AsyncAnthropic(auth_token="token", base_url=llm.base_url, max_retries=0) as client:
        await streamed(client)

    assert llm.requests[0].api_key == "token"
