"""The scripted LLM's Responses API: its replies by the SDK, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.integration.scripted_llm.talk import play

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from worker.embedded.scripted_llm import ScriptedLLM

MODEL = "gpt-5.6-sol"
USER = {"role": "user", "content": "Hello"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "ten"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3RoZXI="}


async def asked(gpt: AsyncOpenAI, *items: dict[str, Any], **options: Any) -> Any:
    body = {"model": MODEL, "input": items, **options}
    return await gpt.post("/responses", body=body, cast_to=dict[str, Any])


async def test_a_response_carries_text_status_and_usage(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    response = await gpt.responses.create(model=MODEL, input="Hello", instructions="Be kind.")

    assert (response.output_text, response.status) == ("You said: Hello", "completed")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    (request,) = llm.requests
    assert (request.system, request.user_text, request.api_key) == ("Be kind.", "Hello", "test-key")


async def test_a_streamed_response_is_what_the_sdk_puts_together(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(
        llm,
        {
            "reply": [{"thinking": "Hm."}, {"text": "Two pieces"}, {"tool": "look", "input": {"a": 1}}],
            "chunk_characters": 6,
        },
    )

    async with gpt.responses.stream(model=MODEL, input="Hello") as stream:
        pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        response = await stream.get_final_response()

    assert pieces == ["Two pi", "eces"]
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert getattr(response.output[2], "arguments", None) == '{"a": 1}'


async def test_what_a_response_holds_can_go_back(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(llm, {"times": 1, "reply": [{"thinking": "Hm."}, {"tool": "look"}]}, {"reply": "Ten."})
    first = await asked(gpt, USER)
    thought, call = first["output"]

    again = await asked(gpt, USER, thought, call, {**OUTPUT, "call_id": call["call_id"]})

    assert again["output"][0]["content"][0]["text"] == "Ten."


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "Missing required parameter: 'input'"),
        ([{"role": "user"}], r"Missing required parameter: 'input\[0\].content'"),
        ([{"role": "tool", "content": "ten"}], "Invalid value: 'tool'"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}], "Invalid value: 'text'"),
        ([{"type": "telepathy"}], "Invalid value: 'telepathy'"),
        ([USER, CALL], "No tool output found for function call call_1"),
        ([USER, OUTPUT], "No tool call found for function call output with call_id call_1"),
        ([USER, THOUGHT, CALL, OUTPUT], "encrypted content for item rs_1 could not be verified"),
        ([USER, {**THOUGHT, "encrypted_content": None}, CALL, OUTPUT], "Items are not persisted"),
    ],
)
async def test_items_are_refused_that_openai_would_refuse(
    gpt: AsyncOpenAI, items: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=message):
        await asked(gpt, *items)


async def test_a_thought_without_what_it_led_to_is_refused(llm: ScriptedLLM, gpt: AsyncOpenAI) -> None:
    play(llm, {"reply": [{"thinking": "Hm."}, {"text": "Yes."}]})
    thought, _ = (await asked(gpt, USER))["output"]

    with pytest.raises(openai.BadRequestError, match="without its required following item"):
        await asked(gpt, USER, thought, USER)


@pytest.mark.parametrize(
    "options",
    [{"max_output_tokens": 5}, {"tools": [{"type": "function"}]}, {"tools": [{"type": "function", "name": "a b"}]}],
)
async def test_options_are_refused_that_openai_would_refuse(gpt: AsyncOpenAI, options: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match=r"max_output_tokens|name"):
        await asked(gpt, USER, **options)
