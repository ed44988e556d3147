"""Putting a streamed reply of Bedrock together again."""

from __future__ import annotations

from typing import Any

import pytest

from worker.conversation.usage import LLMUsage
from worker.engine.llm.aws.messages import BedrockAdapter
from worker.engine.llm.aws.reader import BedrockReader
from worker.engine.llm.reply import EarlyStop


def delta(index: int, **content: Any) -> dict[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": content}}


def call(index: int, arguments: str, name: str = "look") -> list[dict[str, Any]]:
    start = {"toolUse": {"toolUseId": f"call_{index}", "name": name}}
    return [
        {"contentBlockStart": {"contentBlockIndex": index, "start": start}},
        delta(index, toolUse={"input": arguments[:4]}),
        delta(index, toolUse={"input": arguments[4:]}),
    ]


def read(*events: dict[str, Any], stop: str = "end_turn") -> BedrockReader:
    reader = BedrockReader()
    for event in [{"messageStart": {"role": "assistant"}}, *events, {"messageStop": {"stopReason": stop}}]:
        reader.read(event)
    return reader


def test_pipecat_sees_the_text_and_nothing_else() -> None:
    reader = BedrockReader()
    events = [
        delta(0, reasoningContent={"text": "Hm."}),
        delta(1, text="Hello"),
        *call(2, '{"day": 1}'),
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"metadata": {"usage": {}, "metrics": {}}},
    ]

    assert [reader.read(event) for event in events] == [False, True, False, False, False, False, False]


def test_plain_text_and_calls_are_kept_in_the_universal_notation() -> None:
    reply = read(delta(0, text="One "), delta(0, text="moment."), *call(1, '{"day": 1}'), *call(2, "")).reply()

    assert reply.message is not None
    assert reply.message["content"] == "One moment."
    assert [(made.id, made.arguments) for made in reply.tool_calls] == [("call_1", {"day": 1}), ("call_2", {})]
    assert reply.text == "One moment."


def test_arguments_that_are_no_object_are_none() -> None:
    assert [made.arguments for made in read(*call(0, "[1, 2]"), *call(1, '{"day')).reply().tool_calls] == [None, None]


def test_thoughts_that_are_signed_or_hidden_go_back_as_they_came() -> None:
    reply = read(
        delta(0, reasoningContent={"text": "They want "}),
        delta(0, reasoningContent={"text": "a date."}),
        delta(0, reasoningContent={"signature": "c2ln"}),
        delta(1, reasoningContent={"redactedContent": b"\0\xff"}),
        delta(1, reasoningContent={"redactedContent": b"\1"}),
        delta(2, text="Sure."),
    ).reply()

    assert reply.text == "Sure."
    assert reply.message is not None
    own: Any = reply.message["message"]
    adapter = BedrockAdapter()  # type: ignore[no-untyped-call] # pipecat's base class does without
    from_pipecat = adapter.create_llm_specific_message(own)
    assert adapter._from_universal_context_message(from_pipecat)["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "They want a date.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": b"\0\xff\1"}},
        {"text": "Sure."},
    ]


def test_what_comes_after_a_call_keeps_its_place() -> None:
    reply = read(*call(0, "{}"), delta(1, text="Wait.")).reply()

    assert reply.message is not None
    assert reply.message["llm"] == "aws"
    assert reply.text == "Wait."


def test_calls_of_a_reply_that_stopped_early_are_cut_off() -> None:
    reply = read(delta(0, text="I will"), *call(1, "{}"), stop="max_tokens").reply()

    assert (reply.tool_calls, reply.early_stop) == ((), EarlyStop("max_tokens"))
    assert reply.message == {"role": "assistant", "content": "I will"}


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("stop_sequence", None),
        ("guardrail_intervened", EarlyStop("refusal", "guardrail_intervened")),
        ("malformed_tool_use", EarlyStop("malformed_tool_use")),
    ],
)
def test_another_stop_is_a_refusal_or_said_in_bedrocks_words(stop: str, expected: EarlyStop | None) -> None:
    assert read(stop=stop).reply().early_stop == expected


def test_blanks_alone_are_no_message() -> None:
    assert read(delta(0, text=" \n")).reply().message is None


def test_a_reply_that_was_cut_off_is_estimated_until_the_count_comes_behind_its_end() -> None:
    reader = read(delta(0, text="x" * 40))
    assert reader.complete
    assert reader.usage == LLMUsage(0, 10, 10)

    reader.read({"metadata": {"usage": {"inputTokens": 5, "outputTokens": 3, "cacheWriteInputTokens": 4}}})
    assert reader.usage == LLMUsage(5, 3, 12, 0, 4)
