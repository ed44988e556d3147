"""A conversation as one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.normalized_history import MAX_TOOL_RESULT_CHARS, normalized_history

if TYPE_CHECKING:
    from worker.conversation.history import Message

CALL: Message = {
    "role": "assistant",
    "content": "Let me look.",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "free_times", "arguments": "{}"}}],
}
ANTHROPIC_CALL: Message = {
    "llm": "anthropic",
    "message": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Secret.", "signature": "s"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "a", "name": "free_times", "input": {}},
        ],
    },
}


def result(content: str) -> Message:
    return {"role": "tool", "tool_call_id": "a", "content": content}


@pytest.mark.parametrize("call", [CALL, ANTHROPIC_CALL])
def test_who_said_what_and_what_tools_answered_is_written_down_in_order(call: Message) -> None:
    messages: list[Message] = [
        {"role": "user", "content": "When?"},
        call,
        result('{"times": ["10:00"]}'),
        {"role": "assistant", "content": "At ten."},
    ]

    assert normalized_history(messages) == (
        'User: When?\n\nAssistant: Let me look.\n\nTool result (free_times): {"times": ["10:00"]}\n\nAssistant: At ten.'
    )


@pytest.mark.parametrize("content", ['{"status": "done"}', '{"status":"done"}'])
def test_the_result_of_a_transition_is_left_out(content: str) -> None:
    assert "Tool result" not in normalized_history([CALL, result(content)])


@pytest.mark.parametrize("content", ['{"status": "done", "id": 1}', '{"status": "error"}', "done"])
def test_other_results_are_not(content: str) -> None:
    assert f"Tool result (free_times): {content}" in normalized_history([CALL, result(content)])


def test_a_long_tool_result_is_trimmed_and_says_so() -> None:
    text = normalized_history([CALL, result("x" * (MAX_TOOL_RESULT_CHARS + 7))])

    assert text.endswith("xx ... (7 more characters)")
    assert text.count("x") == MAX_TOOL_RESULT_CHARS


def test_results_in_anthropics_own_notation_are_read() -> None:
    block: Any = {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "ten"}]}
    own: Message = {"llm": "anthropic", "message": {"role": "user", "content": [block, {"type": "text", "text": "Ok"}]}}

    assert normalized_history([ANTHROPIC_CALL, own]).endswith("Tool result (free_times): ten\n\nUser: Ok")


def test_images_are_mentioned_and_not_written_out() -> None:
    content: Any = [
        {"type": "text", "text": "My tooth"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]

    assert normalized_history([{"role": "user", "content": content}]) == "User: My tooth\n    [image]"


def test_markers_of_recorded_answers_are_left_out() -> None:
    messages: list[Message] = [{"role": "assistant", "content": "▸ At ten."}, {"role": "assistant", "content": "● h1"}]

    assert normalized_history(messages) == "Assistant: At ten.\n\nAssistant: h1"


def test_what_says_nothing_leaves_nothing() -> None:
    silent: Message = {key: value for key, value in CALL.items() if key != "content"}

    assert normalized_history([{"role": "user", "content": " "}, silent, {"role": "system", "content": "x"}]) == ""
    assert normalized_history([]) == ""


@given(st.text(), st.text())
def test_nobody_can_write_what_passes_for_an_entry_of_another(said: str, answered: str) -> None:
    text = normalized_history([{"role": "user", "content": f"x{said}"}, CALL, result(f"x{answered}")])

    assert [line.split(":")[0] for line in text.splitlines() if line and not line.startswith("    ")] == [
        "User",
        "Assistant",
        "Tool result (free_times)",
    ]
