"""Putting a streamed chat completion together again, also from servers that take liberties."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from worker.conversation.usage import LLMUsage
from worker.engine.llm.openai.service import OpenAIReader


def chunk(*, finish_reason: str | None = None, usage: dict[str, Any] | None = None, **delta: Any) -> Any:
    return ChatCompletionChunk.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-5",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
            "usage": usage,
        }
    )


def calls(*made: dict[str, Any]) -> Any:
    # A server may leave out the index, which the SDK then hands on as None.
    built = chunk(tool_calls=[{"index": 0, **call} for call in made])
    for call, given in zip(built.choices[0].delta.tool_calls, made, strict=True):
        call.index = given.get("index")
    return built


def read(*chunks: Any, finish_reason: str = "stop") -> OpenAIReader:
    reader = OpenAIReader()
    for each in [*chunks, chunk(finish_reason=finish_reason)]:
        reader.read(each)
    return reader


def function(name: str = "", arguments: str = "") -> dict[str, str]:
    return {"name": name, "arguments": arguments}


def test_text_is_joined_and_shown_to_pipecat() -> None:
    reader = OpenAIReader()
    seen = [reader.read(each) for each in (chunk(content="Hel"), chunk(content="lo"), chunk(finish_reason="stop"))]

    assert seen == [True, True, False]
    assert reader.complete
    assert reader.reply().message == {"role": "assistant", "content": "Hello"}


def test_arguments_in_pieces_are_joined_by_index() -> None:
    reply = read(
        calls({"index": 0, "id": "a", "function": function("book", '{"day"')}),
        calls({"index": 0, "function": function(arguments=': "Mon"}')}),
        calls({"index": 1, "id": "b", "function": function("look")}),
        finish_reason="tool_calls",
    ).reply()

    assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [
        ("a", "book", {"day": "Mon"}),
        ("b", "look", {}),
    ]


def test_several_calls_in_one_chunk_are_all_read() -> None:
    reply = read(
        calls(
            {"index": 0, "id": "a", "function": function("book", "{}")},
            {"index": 1, "id": "b", "function": function("look", "{}")},
        )
    ).reply()

    assert [call.name for call in reply.tool_calls] == ["book", "look"]


def test_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    reply = read(
        calls({"id": "a", "function": function("book", "{")}),
        calls({"function": function(arguments="}")}),
        calls({"id": "b", "function": function("look", "{}")}),
    ).reply()

    assert [(call.id, call.arguments) for call in reply.tool_calls] == [("a", {}), ("b", {})]


def test_calls_without_an_id_or_with_the_same_one_get_ids_of_their_own() -> None:
    reply = read(
        calls(
            {"index": 0, "id": "same", "function": function("book")},
            {"index": 1, "id": "same", "function": function("book")},
            {"index": 2, "function": function("book")},
        )
    ).reply()

    ids = [call.id for call in reply.tool_calls]
    assert ids[0] == "same"
    assert len(set(ids)) == 3
    assert all(ids)


def test_text_beside_a_call_in_one_chunk_is_shown_all_the_same() -> None:
    both = chunk(content="Sure.", tool_calls=[{"index": 0, "id": "a", "function": function("book", "{}")}])
    reader = OpenAIReader()

    assert reader.read(both)
    assert both.choices[0].delta.tool_calls is None
    reader.read(chunk(finish_reason="tool_calls"))
    assert reader.reply().message == {
        "role": "assistant",
        "content": "Sure.",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "book", "arguments": "{}"}}],
    }


def test_arguments_that_are_no_json_are_none_instead_of_a_lost_call() -> None:
    reply = read(calls({"index": 0, "id": "a", "function": function("book", "{day: Mon}")})).reply()

    assert reply.tool_calls[0].arguments is None


def test_a_refusal_in_words_is_an_early_stop() -> None:
    reply = read(chunk(refusal="I cannot "), chunk(refusal="help.")).reply()

    assert reply.early_stop is not None
    assert (reply.early_stop.reason, reply.early_stop.detail) == ("refusal", "I cannot help.")


def test_a_stream_without_a_finish_reason_is_not_complete() -> None:
    reader = OpenAIReader()
    reader.read(chunk(content="x" * 8))

    assert not reader.complete
    assert reader.usage == LLMUsage(completion_tokens=2, total_tokens=2)


def test_a_server_that_reports_no_usage_used_nothing_that_is_known() -> None:
    assert read(chunk(content="Hello")).usage == LLMUsage()


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": None, "total_tokens": None}, LLMUsage(9, 0, 9)),
        ({"prompt_tokens": "9", "completion_tokens": 1.5, "total_tokens": 10.5}, LLMUsage(9, 1, 10)),
        ({"prompt_tokens": {}, "completion_tokens": float("inf"), "total_tokens": "many"}, LLMUsage()),
        ({}, LLMUsage()),
    ],
)
def test_of_counts_that_are_none_as_much_is_taken_as_can_be(reported: dict[str, Any], usage: LLMUsage) -> None:
    # As the SDK reads it: without a check.
    last = ChatCompletionChunk.construct(choices=[], usage=reported)

    assert read(chunk(content="Hello"), last).usage == usage


def test_usage_after_the_last_choice_is_read() -> None:
    reader = read(chunk(content="Hello"))
    details = {"cached_tokens": 3, "cache_write_tokens": 2}
    last = chunk(
        usage={"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_tokens_details": details}
    )
    last.choices = []

    assert not reader.read(last)
    assert reader.usage == LLMUsage(9, 1, 10, 3, 2)
