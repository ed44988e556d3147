"""Putting a streamed Anthropic message together again."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic._models import construct_type
from anthropic.types.beta import BetaRawMessageStreamEvent

from worker.conversation.usage import LLMUsage
from worker.engine.llm.anthropic import AnthropicReader

STOP = {"type": "message_stop"}


def event(value: dict[str, Any]) -> Any:
    """Build an event as the SDK does, without refusing what it does not know."""
    return construct_type(type_=BetaRawMessageStreamEvent, value=value)


def read(*values: dict[str, Any], stop_reason: str = "end_turn") -> AnthropicReader:
    reader = AnthropicReader()
    for value in values:
        reader.read(event(value))
    reader.read(event({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 7}}))
    reader.read(event(STOP))
    return reader


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return [
        start(index, {"type": "text", "text": ""}),
        *(delta(index, type="text_delta", text=piece) for piece in pieces),
    ]


def call(index: int, arguments: str) -> list[dict[str, Any]]:
    return [
        start(index, {"type": "tool_use", "id": f"toolu_{index}", "name": "book", "input": {}}),
        delta(index, type="input_json_delta", partial_json=""),
        *(delta(index, type="input_json_delta", partial_json=letter) for letter in arguments),
    ]


def test_plain_text_is_kept_in_the_universal_notation() -> None:
    reply = read(*text(0, "Hello, ", "Ada.\n")).reply()

    assert reply.message == {"role": "assistant", "content": "Hello, Ada.\n"}
    assert reply.tool_calls == ()
    assert reply.early_stop is None


def test_every_tool_call_of_a_reply_is_read_with_its_arguments() -> None:
    reply = read(*text(0, "Sure."), *call(1, '{"day": "Mon"}'), *call(2, ""), stop_reason="tool_use").reply()

    assert [(made.id, made.arguments) for made in reply.tool_calls] == [("toolu_1", {"day": "Mon"}), ("toolu_2", {})]
    assert reply.message == {
        "role": "assistant",
        "content": "Sure.",
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "book", "arguments": '{"day": "Mon"}'}},
            {"id": "toolu_2", "type": "function", "function": {"name": "book", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("arguments", ['{"day": ', "[1]", '"Mon"'])
def test_arguments_that_are_no_object_are_none_and_leave_a_valid_message(arguments: str) -> None:
    reply = read(*call(0, arguments), stop_reason="tool_use").reply()

    assert reply.tool_calls[0].arguments is None
    assert '"arguments": "{}"' in str(reply.message).replace("'", '"')


def test_only_text_is_shown_to_pipecat() -> None:
    reader = AnthropicReader()
    seen = [value["type"] for value in [*text(0, "Hi"), *call(1, "{}"), STOP] if reader.read(event(value))]

    assert seen == ["content_block_delta"]


def own(reply_of: AnthropicReader) -> Any:
    message: Any = reply_of.reply().message
    assert message["llm"] == "anthropic"
    assert message["message"]["role"] == "assistant"
    return message["message"]["content"]


def test_what_the_universal_notation_cannot_hold_is_kept_as_the_provider_said_it() -> None:
    citation = {
        "type": "char_location",
        "cited_text": "nine",
        "document_index": 0,
        "document_title": None,
        "start_char_index": 0,
        "end_char_index": 4,
        "file_id": None,
    }
    content = own(
        read(
            start(0, {"type": "thinking", "thinking": "", "signature": ""}),
            delta(0, type="thinking_delta", thinking="Let me "),
            delta(0, type="thinking_delta", thinking="see."),
            delta(0, type="signature_delta", signature="c2ln"),
            start(1, {"type": "redacted_thinking", "data": "c2VjcmV0"}),
            *text(2, "At nine."),
            delta(2, type="citations_delta", citation=citation),
            delta(2, type="citations_delta", citation=citation),
            start(3, {"type": "hologram", "shape": {"sides": 6}}),
            delta(3, type="hologram_delta", colour="blue"),
        )
    )

    assert content == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "text", "text": "At nine.", "citations": [citation, citation]},
        {"type": "hologram", "shape": {"sides": 6}, "colour": "blue"},
    ]


def test_text_after_a_call_keeps_its_place() -> None:
    content = own(read(*call(0, "{}"), *text(1, "There."), stop_reason="tool_use"))

    assert [block["type"] for block in content] == ["tool_use", "text"]


def test_blank_text_is_not_sent_back() -> None:
    reply = read(*text(0, "\n"), *call(1, "{}"), stop_reason="tool_use").reply()

    assert reply.message is not None
    assert "content" not in reply.message


def test_an_empty_reply_holds_nothing() -> None:
    reply = read().reply()

    assert (reply.message, reply.tool_calls, reply.early_stop) == (None, (), None)


def test_a_refusal_carries_its_category() -> None:
    reader = AnthropicReader()
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    stopped = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {}}
    reader.read(event({**stopped, "usage": {"output_tokens": 0}}))
    stop = reader.reply().early_stop

    assert stop is not None
    assert (stop.reason, stop.detail) == ("refusal", "cyber")


def test_later_usage_replaces_what_it_names_and_keeps_the_rest() -> None:
    reader = AnthropicReader()
    usage = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}
    reader.read(event({"type": "message_start", "message": {"usage": usage}}))
    reader.read(event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}))
    reader.read(event(STOP))

    assert reader.usage == LLMUsage(10, 9, 25, 4, 2)


def test_the_tokens_of_a_reply_that_was_cut_off_are_estimated() -> None:
    reader = AnthropicReader()
    reader.read(event({"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}))
    for value in text(0, "x" * 40):
        reader.read(event(value))

    assert not reader.complete
    assert reader.usage == LLMUsage(10, 10, 20)
