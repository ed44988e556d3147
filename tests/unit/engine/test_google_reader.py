"""Putting a streamed reply of Gemini together again."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai.types import GenerateContentResponse

from worker.conversation.usage import LLMUsage
from worker.engine.llm.google.reader import GoogleReader
from worker.engine.llm.reply import EarlyStop


def chunk(*parts: dict[str, Any], stop: str | None = None, usage: dict[str, int] | None = None) -> Any:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finish_reason": stop}
    return GenerateContentResponse.model_validate({"candidates": [candidate], "usage_metadata": usage})


def read(*chunks: Any, stop: str = "STOP") -> GoogleReader:
    reader = GoogleReader()
    for each in [*chunks, chunk(stop=stop)]:
        reader.read(each)
    return reader


def call(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"function_call": {"name": name, "args": {"day": 1}, **more}}


def test_text_is_joined_and_shown_to_pipecat_without_anything_else() -> None:
    reader = GoogleReader()
    both = chunk({"text": "Hm.", "thought": True}, {"text": "Hel"}, call(id="a"))

    assert reader.read(both)
    assert [part.model_dump(exclude_none=True) for part in both.candidates[0].content.parts] == [{"text": "Hel"}]
    assert [reader.read(each) for each in (chunk({"text": "lo"}), chunk(call(id="b")), chunk(stop="STOP"))] == [
        True,
        False,
        False,
    ]
    assert reader.complete


def test_plain_text_and_calls_are_kept_in_the_universal_notation() -> None:
    reply = read(chunk({"text": "One "}), chunk({"text": "moment."}), chunk(call(id="a"), call("book", id="b"))).reply()

    assert reply.message is not None
    assert reply.message["content"] == "One moment."
    assert [made.id for made in reply.tool_calls] == ["a", "b"]
    assert reply.text == "One moment."


def test_a_call_without_an_id_or_arguments_gets_them() -> None:
    (first, second) = (
        read(chunk({"function_call": {"name": "look"}}, {"function_call": {"name": "look"}})).reply().tool_calls
    )

    assert first.id != second.id
    assert first.arguments == {}


def test_a_signed_piece_stays_as_it_came() -> None:
    reply = read(
        chunk({"text": "Hel"}), chunk({"text": "lo"}), chunk({"text": "", "thought_signature": "_wBh"})
    ).reply()

    assert reply.message is not None
    assert reply.message["message"] == {
        "role": "assistant",
        "parts": [{"text": "Hello"}, {"text": "", "thought_signature": "_wBh"}],
    }
    assert reply.text == "Hello"


def test_what_comes_after_a_call_keeps_its_place() -> None:
    reply = read(chunk(call(id="a"), {"text": "Wait."})).reply()

    assert reply.message is not None
    assert reply.message["llm"] == "google"
    assert reply.text == "Wait."


def test_calls_of_a_reply_that_stopped_early_are_cut_off() -> None:
    reply = read(chunk({"text": "I will"}), chunk(call(id="a")), stop="MAX_TOKENS").reply()

    assert (reply.tool_calls, reply.early_stop) == ((), EarlyStop("max_tokens"))
    assert reply.message == {"role": "assistant", "content": "I will"}


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("SAFETY", EarlyStop("refusal", "safety")),
        ("RECITATION", EarlyStop("refusal", "recitation")),
        ("MALFORMED_FUNCTION_CALL", EarlyStop("malformed_function_call")),
    ],
)
def test_another_stop_is_a_refusal_or_said_in_geminis_words(stop: str, expected: EarlyStop) -> None:
    assert read(stop=stop).reply().early_stop == expected


def test_a_blocked_prompt_is_a_refusal_and_the_end() -> None:
    reader = GoogleReader()
    reader.read(GenerateContentResponse.model_validate({"prompt_feedback": {"block_reason": "PROHIBITED_CONTENT"}}))

    assert reader.complete
    assert reader.reply().early_stop == EarlyStop("refusal", "prohibited_content")
    assert reader.reply().message is None


def test_blanks_alone_are_no_message() -> None:
    assert read(chunk({"text": " \n"})).reply().message is None


def test_the_last_count_holds_and_a_reply_that_was_cut_off_is_estimated() -> None:
    reader = GoogleReader()
    reader.read(chunk({"text": "x" * 40}, usage={"prompt_token_count": 5}))
    assert reader.usage == LLMUsage(5, 10, 15)

    counts = {
        "prompt_token_count": 5,
        "candidates_token_count": 3,
        "thoughts_token_count": 2,
        "cached_content_token_count": 4,
    }
    reader.read(chunk(stop="STOP", usage=counts))
    assert reader.usage == LLMUsage(5, 5, 10, 4)
