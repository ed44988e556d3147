"""The scripted LLM's Gemini API: its replies by the SDK, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from google import genai
from google.genai.errors import ClientError
from google.genai.types import HttpOptions

from tests.integration.scripted_llm.talk import play

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.genai.client import AsyncClient

    from worker.embedded.scripted_llm import ScriptedLLM

MODEL = "gemini-3.6-flash"
USER = {"role": "user", "parts": [{"text": "Hello"}]}
CALL = {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "c2tpcA=="}]}
RESULT = {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"value": "ten"}}}]}


@pytest.fixture
async def gemini(llm: ScriptedLLM) -> AsyncIterator[AsyncClient]:
    async with httpx2.AsyncClient() as http:
        options = HttpOptions(base_url=llm.base_url, httpx_async_client=http)
        with genai.Client(vertexai=False, api_key="test-key", http_options=options) as client:
            yield client.aio


async def posted(llm: ScriptedLLM, body: object, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.post(
            f"{llm.base_url}/v1beta/models/{MODEL}:generateContent",
            json=body,
            headers={"x-goog-api-key": "test-key"} | headers,
        )


async def test_a_reply_carries_text_finish_reason_and_usage(llm: ScriptedLLM, gemini: AsyncClient) -> None:
    reply = await gemini.models.generate_content(model=MODEL, contents="Hello")

    assert reply.text == "You said: Hello"
    assert reply.candidates is not None
    assert reply.candidates[0].finish_reason == "STOP"
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata.total_token_count or 0) > (reply.usage_metadata.prompt_token_count or 0) > 0
    (request,) = llm.requests
    assert (request.model, request.user_text, request.api_key) == (MODEL, "Hello", "test-key")
    assert "x-goog-api-key" not in request.headers


async def test_a_streamed_reply_comes_in_chunks_thoughts_first_and_their_signature_last(
    llm: ScriptedLLM, gemini: AsyncClient
) -> None:
    play(llm, {"reply": [{"thinking": "Hm."}, {"text": "abcdef"}], "chunk_characters": 4})

    parts = [
        part
        async for chunk in await gemini.models.generate_content_stream(model=MODEL, contents="Hello")
        for part in (chunk.candidates or [])[0].content.parts  # type: ignore[union-attr] # there is one
    ]

    assert [(part.text, bool(part.thought)) for part in parts] == [
        ("Hm.", True), ("abcd", False), ("ef", False), ("", False), ("", False),
    ]  # fmt: skip
    assert [bool(part.thought_signature) for part in parts] == [False, False, False, True, False]


async def test_a_rejected_key_is_told_as_google_tells_it(llm: ScriptedLLM, gemini: AsyncClient) -> None:
    play(llm, rejected_keys=["test-key"])

    with pytest.raises(ClientError, match="API_KEY_INVALID") as refused:
        await gemini.models.generate_content(model=MODEL, contents="Hello")

    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")


async def test_a_caller_without_a_key_is_not_let_in(llm: ScriptedLLM) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(f"{llm.base_url}/v1beta/models/{MODEL}:generateContent", json={"contents": [USER]})

    assert (reply.status_code, reply.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


async def test_the_result_of_a_tool_is_what_a_script_sees(llm: ScriptedLLM) -> None:
    reply = await posted(llm, {"contents": [USER, CALL, RESULT]})

    (part,) = reply.json()["candidates"][0]["content"]["parts"]
    assert part == {"text": 'The tool answered: "ten"'}


def declared(name: str, **parameters: Any) -> dict[str, Any]:
    return {"functionDeclarations": [{"name": name, "parameters": {"type": "OBJECT", **parameters}}]}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "Invalid JSON payload"),
        ({}, "contents is not specified"),
        ({"contents": "Hello"}, "expected a list"),
        ({"contents": ["Hello"]}, "expected an object"),
        ({"contents": [USER | {"role": "assistant"}]}, "valid role"),
        ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        ({"contents": [{"role": "user", "parts": [{}]}]}, "oneof field"),
        ({"contents": [{"role": "user", "parts": ["Hello"]}]}, "oneof field"),
        ({"contents": [{"role": "user", "parts": [{"txt": "Hello"}]}]}, 'Unknown name "txt"'),
        ({"contents": [USER, {"role": "model", "parts": [{"text": "Hi"}]}]}, "end with a user role"),
        ({"contents": [CALL, RESULT]}, "immediately after a user turn"),
        ({"contents": [USER, CALL]}, "immediately after a function call turn"),
        ({"contents": [USER, CALL, USER]}, "equal to the number of function call parts"),
        ({"contents": [USER, RESULT]}, "equal to the number of function call parts"),
        (
            {"contents": [USER, CALL, {"parts": [{"functionResponse": {"name": "book", "response": {}}}]}]},
            "of the functions that were called",
        ),
        ({"contents": [USER, {"role": "model", "parts": [{"functionCall": {"args": {}}}]}]}, "Name cannot be empty"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "look", "response": 1}}]}]}, "expected an object"),
        (
            {"contents": [USER, {"role": "model", "parts": [{"functionCall": {"name": "look"}}]}]},
            "missing a thought_sig",
        ),
        ({"contents": [USER, {"role": "model", "parts": [{"text": "Hi", "thoughtSignature": "?"}]}]}, "Base64"),
        ({"contents": [USER], "tools": [declared("no name")]}, "Invalid function name"),
        (
            {"contents": [USER], "tools": [{"functionDeclarations": [{"name": "look"}, {"name": "look"}]}]},
            "Duplicate function declaration",
        ),
        (
            {"contents": [USER], "tools": [declared("look", additionalProperties=False, properties={"day": {}})]},
            "additionalProperties",
        ),
        ({"contents": [USER], "tools": [declared("look")]}, "should be non-empty for OBJECT type"),
        (
            {"contents": [USER], "tools": [declared("look", properties={"day": {"const": 1}})]},
            "parameters.properties[day]",
        ),
    ],
)
async def test_a_body_that_gemini_refuses_is_refused(llm: ScriptedLLM, body: object, sentence: str) -> None:
    reply = await posted(llm, body)

    assert reply.status_code == 400
    assert reply.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert sentence in reply.json()["error"]["message"]


async def test_a_signature_that_no_longer_fits_its_part_is_noticed(llm: ScriptedLLM) -> None:
    play(llm, {"reply": [{"thinking": "Hm."}, {"tool": "look", "input": {"day": 1}}]})
    said = (await posted(llm, {"contents": [USER]})).json()["candidates"][0]["content"]

    assert (await posted(llm, {"contents": [USER, said, RESULT]})).status_code == 200
    said["parts"][-1]["functionCall"]["args"] = {"day": 2}
    damaged = await posted(llm, {"contents": [USER, said, RESULT]})

    assert damaged.json()["error"]["message"] == "Corrupted thought signature."
