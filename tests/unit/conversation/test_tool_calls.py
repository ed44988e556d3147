from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from worker.conversation.tool_calls import unpaired_tool_calls

if TYPE_CHECKING:
    from collections.abc import Callable

Messages = list[dict[str, Any]]


def anthropic_call(*ids: str, text: str = "") -> dict[str, Any]:
    blocks = [{"type": "tool_use", "id": call_id, "name": "look", "input": {}} for call_id in ids]
    return {"role": "assistant", "content": [*([{"type": "text", "text": text}] if text else []), *blocks]}


def anthropic_result(*ids: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": call_id, "content": "ok"} for call_id in ids],
    }


def openai_call(*ids: str, text: str = "") -> dict[str, Any]:
    calls = [{"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}} for call_id in ids]
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def openai_result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": '"ok"'}


def wrapped(message: dict[str, Any]) -> dict[str, Any]:
    return {"llm": "anthropic", "message": message}


SAID: dict[str, Any] = {"role": "user", "content": "Hello"}
REPLIED: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SAID, REPLIED],
        [SAID, anthropic_call("a", text="One moment."), anthropic_result("a"), REPLIED],
        [anthropic_call("a", "b"), anthropic_result("b", "a")],
        [anthropic_call("a"), anthropic_call("b"), anthropic_result("a"), anthropic_result("b")],
        [anthropic_call("a"), anthropic_result("a"), anthropic_call("a"), anthropic_result("a")],
        [wrapped(anthropic_call("a")), wrapped(anthropic_result("a"))],
        [openai_call("a", "b", text="One moment."), openai_result("a"), openai_result("b"), SAID],
        [openai_call("a"), openai_result("a"), openai_call("b"), openai_result("b"), REPLIED],
        [{"role": "assistant", "content": "Hi", "tool_calls": []}, {"role": "assistant", "tool_calls": None}],
    ],
)
def test_a_context_in_which_every_call_has_its_result_may_be_stored(messages: Messages) -> None:
    assert unpaired_tool_calls(messages) == ()


def test_a_result_and_something_said_may_share_a_message() -> None:
    result = anthropic_result("a")
    result["content"].append({"type": "text", "text": "And hurry."})
    assert unpaired_tool_calls([anthropic_call("a"), result]) == ()


@pytest.mark.parametrize("call", [anthropic_call, openai_call])
def test_a_call_without_a_result_is_named(call: Callable[..., dict[str, Any]]) -> None:
    assert unpaired_tool_calls([SAID, call("a", "b")]) == ("a", "b")
    assert unpaired_tool_calls([wrapped(call("a"))]) == ("a",)


@pytest.mark.parametrize("result", [anthropic_result, openai_result])
def test_a_result_without_a_call_is_named(result: Callable[[str], dict[str, Any]]) -> None:
    assert unpaired_tool_calls([SAID, result("a")]) == ("a",)
    assert unpaired_tool_calls([result("a"), anthropic_call("a")]) == ("a",)


def test_one_missing_result_among_parallel_calls_is_named() -> None:
    assert unpaired_tool_calls([anthropic_call("a", "b", "c"), anthropic_result("a", "c"), REPLIED]) == ("b",)
    assert unpaired_tool_calls([openai_call("a", "b"), openai_result("b")]) == ("a",)


@pytest.mark.parametrize("between", [SAID, REPLIED, anthropic_call("b", text="And")])
def test_a_result_that_comes_after_something_else_was_said_does_not_count(between: dict[str, Any]) -> None:
    assert "a" in unpaired_tool_calls([anthropic_call("a"), between, anthropic_result("a", "b")])


def test_a_second_result_of_one_call_is_named() -> None:
    assert unpaired_tool_calls([anthropic_call("a"), anthropic_result("a"), anthropic_result("a")]) == ("a",)


def test_two_open_calls_of_one_id_are_named() -> None:
    assert unpaired_tool_calls([anthropic_call("a", "a"), anthropic_result("a")]) == ("a",)


def test_a_placeholder_for_a_tool_that_still_runs_is_no_result() -> None:
    running = {**openai_result("a"), "content": "IN_PROGRESS"}
    assert unpaired_tool_calls([openai_call("a"), running]) == ("a",)
    assert unpaired_tool_calls([openai_call("a"), {**running, "content": '"IN_PROGRESS"'}]) == ()
