"""A request of either API, reduced to what a script can depend on."""

from __future__ import annotations

from typing import Any

import pytest

from worker.embedded.scripted_llm.anthropic.api import AnthropicApi
from worker.embedded.scripted_llm.openai.api import OpenAIApi
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult


def from_anthropic(*messages: dict[str, Any], **options: Any) -> ModelRequest:
    return AnthropicApi().read({"model": "claude-sonnet-5", "max_tokens": 9, "messages": messages, **options}, 400)


def from_openai(*messages: dict[str, Any], **options: Any) -> ModelRequest:
    return OpenAIApi().read({"model": "gpt-5", "messages": messages, **options}, 400)


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


ASKED = {"role": "user", "content": "Book it"}
CALLED = {
    "role": "assistant",
    "content": [
        text("One moment"),
        {"type": "tool_use", "id": "a", "name": "book", "input": {}},
        {"type": "tool_use", "id": "b", "name": "pay", "input": {}},
    ],
}
BOOKED = {"type": "tool_result", "tool_use_id": "a", "content": "Booked"}
PAID = {"type": "tool_result", "tool_use_id": "b", "content": [text("Paid"), text("Thanks")]}

ASKED_TO_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "book", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "pay", "arguments": "{}"}},
    ],
}
TOOL_BOOKED = {"role": "tool", "tool_call_id": "a", "content": "Booked"}
TOOL_PAID = {"role": "tool", "tool_call_id": "b", "content": [text("Paid"), text("Thanks")]}
RESULTS = (ToolResult("book", "Booked"), ToolResult("pay", "Paid\nThanks"))


def test_the_parts_of_an_anthropic_request_are_found() -> None:
    request = from_anthropic(
        ASKED,
        {"role": "assistant", "content": "When?"},
        {"role": "user", "content": [text("Monday"), text("or Tuesday")]},
        system=[text("Be nice"), text("Be brief")],
        tools=[{"name": "book"}, {"name": "pay"}],
        stream=True,
    )

    assert request == ModelRequest(
        model="claude-sonnet-5",
        system="Be nice\nBe brief",
        user_texts=("Book it", "Monday\nor Tuesday"),
        tools=frozenset({"book", "pay"}),
        tool_results=(),
        stream=True,
        include_usage=True,
        input_tokens=100,
    )
    assert request.user_text == "Monday\nor Tuesday"


def test_the_parts_of_an_openai_request_are_found() -> None:
    request = from_openai(
        {"role": "system", "content": "Be nice"},
        ASKED,
        {"role": "assistant", "content": "When?"},
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [text("Monday"), text("or Tuesday")]},
        tools=[{"type": "function", "function": {"name": "book"}}],
        stream=True,
        stream_options={"include_usage": True},
    )

    assert request == ModelRequest(
        model="gpt-5",
        system="Be nice\nBe brief",
        user_texts=("Book it", "Monday\nor Tuesday"),
        tools=frozenset({"book"}),
        tool_results=(),
        stream=True,
        include_usage=True,
        input_tokens=100,
    )


@pytest.mark.parametrize(
    "request_",
    [
        from_anthropic(ASKED, CALLED, {"role": "user", "content": [BOOKED, PAID]}),
        from_anthropic(ASKED, CALLED, {"role": "user", "content": [BOOKED]}, {"role": "user", "content": [PAID]}),
        from_openai(ASKED, ASKED_TO_CALL, TOOL_BOOKED, TOOL_PAID),
    ],
    ids=["in one message", "in a message each", "openai"],
)
def test_the_results_a_request_ends_with_are_known_by_their_tools(request_: ModelRequest) -> None:
    assert request_.tool_results == RESULTS
    assert request_.user_texts == ("Book it",)


@pytest.mark.parametrize(
    "request_",
    [
        from_anthropic(ASKED, CALLED, {"role": "user", "content": [BOOKED, PAID, text("And now?")]}),
        from_anthropic(
            ASKED, CALLED, {"role": "user", "content": [BOOKED, PAID]}, {"role": "user", "content": "And now?"}
        ),
        from_openai(ASKED, ASKED_TO_CALL, TOOL_BOOKED, TOOL_PAID, {"role": "user", "content": "And now?"}),
    ],
    ids=["in one message", "in a message each", "openai"],
)
def test_once_somebody_has_spoken_the_request_no_longer_ends_with_results(request_: ModelRequest) -> None:
    assert request_.tool_results == ()
    assert request_.user_text == "And now?"


def test_a_user_who_said_nothing_has_an_empty_text() -> None:
    assert from_openai({"role": "system", "content": "Be nice"}).user_text == ""
