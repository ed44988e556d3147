"""The scripted LLM's Bedrock API: its replies by the SDK, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from botocore.exceptions import ClientError, EventStreamError

from tests.integration.scripted_llm.talk import play
from worker.engine.llm.aws.client import BedrockClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.embedded.scripted_llm import ScriptedLLM

MODEL = "us.amazon.nova-lite-v1:0"
USER = {"role": "user", "content": [{"text": "Hello"}]}
CALL = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "look", "input": {}}}]}
RESULT: dict[str, Any] = {
    "role": "user",
    "content": [{"toolResult": {"toolUseId": "a", "content": [{"json": {"at": "ten"}}]}}],
}
TOOLS = {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]}


@pytest.fixture
async def bedrock(llm: ScriptedLLM) -> AsyncIterator[BedrockClient]:
    client = BedrockClient(base_url=llm.base_url, api_key="test-key", allowed_hosts=None)
    yield client
    await client.close()


async def posted(llm: ScriptedLLM, body: object, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        headers = {"authorization": "Bearer test-key"} | headers
        return await http.post(f"{llm.base_url}/model/{MODEL}/converse", json=body, headers=headers)


async def streamed(bedrock: BedrockClient) -> list[dict[str, Any]]:
    reply = await bedrock.converse_stream(modelId=MODEL, messages=[USER])
    return [event async for event in reply["stream"]]


async def test_a_streamed_reply_comes_in_chunks_and_its_count_last(llm: ScriptedLLM, bedrock: BedrockClient) -> None:
    script = [{"thinking": "Hm."}, {"text": "abcdef"}, {"tool": "look", "input": {"day": 1}}]
    play(llm, {"reply": script, "chunk_characters": 4})

    events = await streamed(bedrock)

    deltas = [each["delta"] for event in events if (each := event.get("contentBlockDelta"))]
    assert [next(iter(each)) for each in deltas] == ["reasoningContent"] * 2 + ["text"] * 2 + ["toolUse"] * 4
    assert "".join(each["text"] for each in deltas if "text" in each) == "abcdef"
    assert "".join(each["toolUse"]["input"] for each in deltas if "toolUse" in each) == '{"day": 1}'
    assert [next(iter(event)) for event in events[-2:]] == ["messageStop", "metadata"]
    assert events[-2]["messageStop"]["stopReason"] == "tool_use"
    (request,) = llm.requests
    assert (request.model, request.user_text, request.api_key) == (MODEL, "Hello", "test-key")
    assert "authorization" not in request.headers


async def test_a_reply_that_is_not_streamed_carries_the_same(llm: ScriptedLLM) -> None:
    play(llm, {"reply": [{"text": "Wait."}, {"tool": "look", "input": {"day": 1}}]})

    reply = (await posted(llm, {"messages": [USER]})).json()

    text, call = reply["output"]["message"]["content"]
    assert (text, call["toolUse"]["name"], call["toolUse"]["input"]) == ({"text": "Wait."}, "look", {"day": 1})
    assert reply["stopReason"] == "tool_use"
    assert reply["usage"]["totalTokens"] > reply["usage"]["inputTokens"] > 0


async def test_an_error_carries_the_exception_s_name(llm: ScriptedLLM, bedrock: BedrockClient) -> None:
    play(llm, rejected_keys=["test-key"])
    with pytest.raises(ClientError, match=r"AccessDeniedException.*API Key"):
        await streamed(bedrock)

    play(llm, {"reply": "Well begun", "error": {"status": 429, "after_chunks": 1}})
    with pytest.raises(EventStreamError, match="throttlingException"):
        await streamed(bedrock)


async def test_a_caller_without_a_key_is_not_let_in(llm: ScriptedLLM) -> None:
    reply = await posted(llm, {"messages": [USER]}, authorization="")

    assert (reply.status_code, reply.headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")


async def test_the_result_of_a_tool_is_what_a_script_sees(llm: ScriptedLLM) -> None:
    reply = await posted(llm, {"messages": [USER, CALL, RESULT], "toolConfig": TOOLS})

    (block,) = reply.json()["output"]["message"]["content"]
    assert block == {"text": 'The tool answered: {"at": "ten"}'}


def said(*content: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "content": [{"text": "Hi"}]}, {"role": role, "content": content}]}


def offered(*names: str, kind: str = "object") -> dict[str, Any]:
    tools = [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": kind}}}} for name in names]
    return {"messages": [USER], "toolConfig": {"tools": tools}}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "expected"),
        ({}, "start with a user message"),
        ({"messages": [CALL, RESULT], "toolConfig": TOOLS}, "start with a user message"),
        ({"messages": [USER, USER]}, "must alternate"),
        ({"messages": [USER, {"role": "system", "content": [{"text": "Hi"}]}]}, "must be one of: user, assistant"),
        ({"messages": [USER], "system": [{"text": " "}]}, "SystemContentBlock object at system.0 is blank"),
        (said(), "messages.2 is empty"),
        (said({"text": " "}), "messages.2.content.0 is blank"),
        (said({"type": "text", "text": "Hi"}), "must set one of the following keys"),
        (said({"toolUse": {"toolUseId": "a", "name": "look", "input": {}}}), "cannot be used"),
        (said({"image": {"format": "tiff", "source": {"bytes": ""}}}), "messages.2.content.0.image"),
        (said({"image": {"format": "png", "source": {"bytes": "?"}}}), "is no picture"),
        ({"messages": [USER, {"role": "assistant", "content": [{"text": "Hi"}]}]}, "assistant message prefill"),
        ({"messages": [USER, CALL], "toolConfig": TOOLS}, "Expected toolResult blocks at messages.2.content"),
        ({"messages": [USER, CALL, USER], "toolConfig": TOOLS}, "for the following Ids: a"),
        (said(*RESULT["content"]) | {"toolConfig": TOOLS}, "exceeds the number of toolUse blocks"),
        ({"messages": [USER, CALL, RESULT]}, "toolConfig field must be defined"),
        (offered(), "toolConfig.tools"),
        (offered("no name"), "regular expression pattern"),
        (offered("look", "look"), "already defined"),
        (offered("look", kind="array"), "must be one of: object"),
    ],
)
async def test_a_body_that_bedrock_refuses_is_refused(llm: ScriptedLLM, body: object, sentence: str) -> None:
    reply = await posted(llm, body)

    assert (reply.status_code, reply.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert sentence in reply.json()["message"]


async def test_a_signature_that_no_longer_fits_its_thought_is_noticed(llm: ScriptedLLM) -> None:
    play(llm, {"reply": [{"thinking": "Hm."}, {"text": "Hi."}]})
    answer = (await posted(llm, {"messages": [USER]})).json()["output"]["message"]

    assert (await posted(llm, {"messages": [USER, answer, USER]})).status_code == 200
    answer["content"][0]["reasoningContent"]["reasoningText"]["text"] = "Ha."
    damaged = await posted(llm, {"messages": [USER, answer, USER]})

    assert "Invalid `signature`" in damaged.json()["message"]
