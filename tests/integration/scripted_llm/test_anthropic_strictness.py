"""Each rule of the real API by itself: the request that breaks it and the sentence that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest

from tests.integration.scripted_llm.talk import ANTHROPIC_HEADERS, HELLO, MODEL, play, streamed, text_of
from worker.embedded.scripted_llm import app

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from worker.embedded.scripted_llm import ScriptedLLM

SCHEMA = {"type": "object", "properties": {}}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def call(identifier: str, name: str = "look") -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": {}}


def result(identifier: str, content: Any = "done") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": SCHEMA, **more}


CONVERSATIONS: dict[str, tuple[Any, str]] = {
    "nothing": ([], "messages: at least one message is required"),
    "not a list": ("Hello", "messages: Input should be a valid list"),
    "a message that is no object": (["Hello"], "messages.0: Input should be an object"),
    "a message without a role": ([{"content": "Hello"}], "messages.0.role: Field required"),
    "a message without content": ([{"role": "user"}], "messages.0.content: Field required"),
    "the assistant first": (
        [{"role": "assistant", "content": "Hi"}, *HELLO],
        'messages: first message must use the "user" role',
    ),
    "a system message": ([{"role": "system", "content": "Be nice"}, *HELLO], 'messages: Unexpected role "system"'),
    "an unknown role": ([{"role": "robot", "content": "Hello"}], "messages: Unexpected role 'robot'"),
    "an empty string": (
        [{"role": "user", "content": ""}],
        "messages.0: all messages must have non-empty content except for the optional final assistant message",
    ),
    "an empty list of blocks": ([user()], "messages.0: all messages must have non-empty content"),
    "content that is a number": ([{"role": "user", "content": 7}], "messages.0.content: Input should be a valid list"),
    "an empty text block": ([user(text(""))], "messages: text content blocks must be non-empty"),
    "a blank string": (
        [{"role": "user", "content": " \n"}],
        "messages: text content blocks must contain non-whitespace text",
    ),
    "a blank text block": ([user(text(" "))], "messages: text content blocks must contain non-whitespace text"),
    "a text block without text": (
        [user({"type": "text"})],
        "messages.0.content.0.text: Input should be a valid string",
    ),
    "a block that is no object": ([user("Hello")], "messages.0.content.0: Input should be an object"),
    "a block of an unknown type": (
        [user({"type": "song"})],
        "messages.0.content.0: Input tag 'song' found using 'type'",
    ),
    "a prefilled answer": (
        [*HELLO, {"role": "assistant", "content": "The answer is"}],
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
    "a call without its result": (
        [*HELLO, assistant(call("a")), user(text("and?"))],
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a.",
    ),
    "two calls, one result": (
        [*HELLO, assistant(call("a"), call("b")), user(result("a"))],
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: b.",
    ),
    "a call at the end": (
        [*HELLO, assistant(call("a"))],
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a.",
    ),
    "a result after other content": (
        [*HELLO, assistant(call("a")), user(text("Here:"), result("a"))],
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a.",
    ),
    "a result of no call": (
        [user(result("a"))],
        "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: a.",
    ),
    "a result of an older call": (
        [*HELLO, assistant(call("a")), user(result("a")), assistant(text("Ok")), user(result("a"))],
        "messages.4.content.0: unexpected `tool_use_id` found in `tool_result` blocks: a.",
    ),
    "two results of one call": (
        [*HELLO, assistant(call("a")), user(result("a"), result("a"))],
        "messages.2.content.1: each tool_use must have a single result.",
    ),
    "two calls of one id": (
        [*HELLO, assistant(call("a"), call("a")), user(result("a"))],
        "messages.1.content.1: `tool_use` ids must be unique",
    ),
    "an id used again later": (
        [*HELLO, assistant(call("a")), user(result("a")), assistant(call("a")), user(result("a"))],
        "messages.3.content.0: `tool_use` ids must be unique",
    ),
    "a call by the user": ([user(call("a"))], "messages.0: `tool_use` blocks can only be in `assistant` messages"),
    "a result by the assistant": (
        [*HELLO, assistant(result("a"))],
        "messages.1: `tool_result` blocks can only be in `user` messages",
    ),
    "a call without input": (
        [*HELLO, assistant({"type": "tool_use", "id": "a", "name": "look"})],
        "messages.1.content.0.tool_use.input: Field required",
    ),
    "a call whose input is text": (
        [*HELLO, assistant(call("a") | {"input": "{}"})],
        "messages.1.content.0.tool_use.input: Input should be a valid dictionary",
    ),
    "a call of an illegal id": (
        [*HELLO, assistant(call("a b"))],
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
    ),
    "a call of an illegal name": (
        [*HELLO, assistant(call("a", "look up"))],
        "messages.1.content.0.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
    ),
    "a result without an id": (
        [user({"type": "tool_result"})],
        "messages.0.content.0.tool_result.tool_use_id: Field required",
    ),
    "a result that is an object": (
        [*HELLO, assistant(call("a")), user(result("a", {"ok": True}))],
        "messages.2.content.0.tool_result.content: Input should be a valid list",
    ),
    "a result of a bare string in a list": (
        [*HELLO, assistant(call("a")), user(result("a", ["done"]))],
        "messages.2.content.0.tool_result.content.0: Input should be an object",
    ),
    "a result with an empty text block": (
        [*HELLO, assistant(call("a")), user(result("a", [text("")]))],
        "messages: text content blocks must be non-empty",
    ),
    "thinking without a signature": (
        [*HELLO, assistant({"type": "thinking", "thinking": "Hm"}, text("Hi")), *HELLO],
        "messages.1.content.0.thinking.signature: Field required",
    ),
    "thinking that was changed": (
        [*HELLO, assistant({"type": "thinking", "thinking": "Hm", "signature": "scriptedXYZ"}, text("Hi")), *HELLO],
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ),
    "a message that ends with a thought": (
        [*HELLO, assistant(text("Hi"), {"type": "thinking", "thinking": "Hm", "signature": "another's"}), *HELLO],
        "messages.1: The final block in an assistant message cannot be `thinking`.",
    ),
    "five cache breakpoints": (
        [user(*(text("Hi") | {"cache_control": {"type": "ephemeral"}} for _ in range(5)))],
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
}

OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "an empty model": ({"model": ""}, "model: String should have at least 1 character"),
    "a model that is a number": ({"model": 5}, "model: Input should be a valid string"),
    "max_tokens of zero": ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
    "max_tokens as text": ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    "stream as text": ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    "a system prompt that is a number": ({"system": 5}, "system: Input should be a valid list"),
    "an empty system block": ({"system": [text("")]}, "system: text content blocks must be non-empty"),
    "a system block of another type": ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
    "tools that are no list": ({"tools": {}}, "tools: Input should be a valid list"),
    "a tool that is no object": ({"tools": ["look"]}, "tools.0: Input should be an object"),
    "two tools of one name": ({"tools": [tool("look"), tool("look")]}, "tools: Tool names must be unique."),
    "a tool without a name": ({"tools": [{"input_schema": SCHEMA}]}, "tools.0.custom.name: Field required"),
    "a tool name with a space": (
        {"tools": [tool("look up")]},
        "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
    ),
    "a tool name of 129 letters": ({"tools": [tool("x" * 129)]}, "tools.0.custom.name: String should match pattern"),
    "an empty tool name": ({"tools": [tool("")]}, "tools.0.custom.name: String should match pattern"),
    "a tool without a schema": ({"tools": [{"name": "look"}]}, "tools.0.custom.input_schema: Field required"),
    "a schema without a type": (
        {"tools": [{"name": "look", "input_schema": {}}]},
        "tools.0.custom.input_schema.type: Field required",
    ),
    "a schema of another type": (
        {"tools": [{"name": "look", "input_schema": {"type": "string"}}]},
        "tools.0.custom.input_schema.type: Input should be 'object'",
    ),
    "a tool choice without tools": (
        {"tool_choice": {"type": "any"}},
        "tool_choice may only be specified while providing tools",
    ),
    "a tool choice of an unknown type": (
        {"tools": [tool("look")], "tool_choice": {"type": "some"}},
        "tool_choice: Input should be an object with a type of",
    ),
    "a choice of a tool not offered": (
        {"tools": [tool("look")], "tool_choice": {"type": "tool", "name": "jump"}},
        "Tool 'jump' not found in provided tools",
    ),
    "thinking of an unknown type": (
        {"thinking": {"type": "deep"}},
        "thinking: Input should be an object with a type of",
    ),
    "thinking without a budget": (
        {"thinking": {"type": "enabled"}},
        "thinking.enabled.budget_tokens: Field required",
    ),
    "a thinking budget that is too small": (
        {"thinking": {"type": "enabled", "budget_tokens": 1000}, "max_tokens": 2000},
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    "a thinking budget beyond max_tokens": (
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 2000},
        "`max_tokens` must be greater than `thinking.budget_tokens`.",
    ),
    "thinking with a forced tool": (
        {
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "max_tokens": 2000,
            "tools": [tool("look")],
            "tool_choice": {"type": "any"},
        },
        "Thinking may not be enabled when tool_choice forces tool use.",
    ),
    "thinking whose tool loop lost its thinking": (
        {
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "max_tokens": 2000,
            "messages": [*HELLO, assistant(call("a")), user(result("a"))],
        },
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "several messages of one role in a row": {"messages": [*HELLO, user(text("Anybody?")), user(text("Hello?"))]},
    "results of parallel calls in separate messages": {
        "messages": [*HELLO, assistant(call("a"), call("b")), user(result("a")), user(result("b"))]
    },
    "a result before text": {"messages": [*HELLO, assistant(call("a")), user(result("a"), text("and now?"))]},
    "a result without content": {
        "messages": [*HELLO, assistant(call("a")), user({"type": "tool_result", "tool_use_id": "a"})]
    },
    "a result in another order": {
        "messages": [*HELLO, assistant(call("a"), call("b")), user(result("b"), result("a"))]
    },
    "calls in the history without tools offered": {"messages": [*HELLO, assistant(call("a")), user(result("a"))]},
    "a signature of the real API": {
        "messages": [*HELLO, assistant({"type": "thinking", "thinking": "Hm", "signature": "EqQB"}, text("Hi")), *HELLO]
    },
    "an image": {
        "messages": [user({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}, text("?"))]
    },
    "an empty system prompt": {"system": ""},
    "four cache breakpoints": {
        "system": [text("Be nice") | {"cache_control": {"type": "ephemeral"}}],
        "messages": [user(*(text("Hi") | {"cache_control": {"type": "ephemeral"}} for _ in range(3)))],
    },
    "a tool of the provider": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "a tool name of 128 letters": {"tools": [tool("x" * 128)]},
    "a tool choice": {"tools": [tool("look")], "tool_choice": {"type": "tool", "name": "look"}},
    "adaptive thinking": {"thinking": {"type": "adaptive"}},
    "thinking switched off": {"thinking": {"type": "disabled"}},
}


@pytest.mark.parametrize(("messages", "sentence"), CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_a_conversation_that_breaks_a_rule_is_refused(
    llm: ScriptedLLM, claude: AsyncAnthropic, messages: Any, sentence: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.post(
            "/v1/messages", body={"model": MODEL, "max_tokens": 9, "messages": messages}, cast_to=dict[str, Any]
        )

    assert_says(caught.value, sentence)
    assert [request.refused is None for request in llm.requests] == [False]


@pytest.mark.parametrize(("options", "sentence"), OPTIONS.values(), ids=OPTIONS)
async def test_an_option_that_breaks_a_rule_is_refused(
    claude: AsyncAnthropic, options: dict[str, Any], sentence: str
) -> None:
    body = {"model": MODEL, "max_tokens": 9, "messages": HELLO, **options}

    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.post("/v1/messages", body=body, cast_to=dict[str, Any])

    assert_says(caught.value, sentence)


@pytest.mark.parametrize("missing", ["model", "messages", "max_tokens"])
async def test_a_request_without_a_required_field_is_refused(claude: AsyncAnthropic, missing: str) -> None:
    body = {"model": MODEL, "max_tokens": 9, "messages": HELLO}
    del body[missing]

    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.post("/v1/messages", body=body, cast_to=dict[str, Any])

    assert_says(caught.value, f"{missing}: Field required")


@pytest.mark.parametrize("options", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_the_real_api_accepts_is_accepted(
    llm: ScriptedLLM, claude: AsyncAnthropic, options: dict[str, Any]
) -> None:
    await streamed(claude, **({"messages": HELLO} | options))

    assert [request.refused for request in llm.requests] == [None]


async def test_a_script_can_allow_prefill_as_older_models_did(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"reply": " 42"}, allow_prefill=True)

    prefilled = [*HELLO, {"role": "assistant", "content": "The answer is"}]
    assert text_of(await streamed(claude, prefilled)) == " 42"

    with pytest.raises(anthropic.BadRequestError) as caught:
        await streamed(claude, [*HELLO, {"role": "assistant", "content": "The answer is "}])
    assert_says(caught.value, "messages: final assistant content cannot end with trailing whitespace")


async def test_a_key_that_the_script_rejects_is_unauthorized_and_every_other_is_not(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(llm, {"reply": "Welcome"}, rejected_keys=["stolen"])

    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        await streamed(claude.with_options(api_key="stolen"))

    assert text_of(await streamed(claude)) == "Welcome"


@pytest.mark.parametrize(
    ("missing", "status", "sentence"),
    [
        ("x-api-key", 401, "x-api-key header is required"),
        ("anthropic-version", 400, "anthropic-version: header is required"),
    ],
)
async def test_a_request_without_a_required_header_is_refused(
    llm: ScriptedLLM, missing: str, status: int, sentence: str
) -> None:
    headers = {name: value for name, value in ANTHROPIC_HEADERS.items() if name != missing}
    async with httpx2.AsyncClient() as http:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            reply = await http.post(f"{llm.base_url}{path}", json={}, headers=headers)

            assert reply.status_code == status
            assert reply.json()["error"]["message"] == sentence


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"], ids=["broken", "a list", "not text"])
async def test_a_body_that_is_no_json_object_is_refused(llm: ScriptedLLM, content: bytes) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(f"{llm.base_url}/v1/messages", content=content, headers=ANTHROPIC_HEADERS)

    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert llm.requests[0].body == {}


async def test_a_request_beyond_the_size_limit_is_too_large(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.RequestTooLargeError, match="Request exceeds the maximum size"):
        await streamed(claude, "x" * (app.MAX_REQUEST_BYTES + 1))


def assert_says(error: anthropic.APIStatusError, sentence: str) -> None:
    assert isinstance(error.body, dict)
    assert error.body["error"]["type"] == "invalid_request_error"
    assert error.body["error"]["message"].startswith(sentence)
