"""The model's context and the requests made from it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.processors.aggregators.llm_context import LLMSpecificMessage

from worker.engine.failures import BrokenContext
from worker.engine.prompts import NEUTRAL_USER_MESSAGE
from worker.engine.transcript import Transcript

if TYPE_CHECKING:
    from pydantic import JsonValue

    from worker.conversation.history import Message

NEUTRAL = {"role": "user", "content": NEUTRAL_USER_MESSAGE}
CALL: JsonValue = {"id": "a", "type": "function", "function": {"name": "book", "arguments": '{"day": "Mon"}'}}
RESULT: Message = {"role": "tool", "tool_call_id": "a", "content": "1"}
THOUGHTFUL: Message = {
    "llm": "anthropic",
    "message": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "text", "text": "Sure."},
            {"type": "tool_use", "id": "a", "name": "book", "input": {"day": "Mon"}},
        ],
    },
}


def request(messages: list[Message], provider: str = "anthropic") -> list[Any]:
    return Transcript(messages).request(provider, ToolsSchema([])).get_messages()


def test_an_empty_context_asks_with_one_neutral_message() -> None:
    assert request([]) == [NEUTRAL]


def test_the_user_has_the_first_and_the_last_word_of_a_request() -> None:
    greeting: Message = {"role": "assistant", "content": "Hello."}

    assert request([greeting]) == [NEUTRAL, greeting, NEUTRAL]


def test_a_context_that_ends_with_a_tool_result_needs_no_word_more() -> None:
    messages: list[Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [CALL]},
        RESULT,
    ]

    assert request(messages, "openai") == messages


def test_neutral_messages_are_not_part_of_the_transcript() -> None:
    transcript = Transcript([])
    transcript.request("openai", ToolsSchema([])).add_message({"role": "user", "content": "pipecat's own"})

    assert transcript.finished() == []


def test_a_providers_own_message_goes_back_to_it_untouched() -> None:
    before = copy.deepcopy(THOUGHTFUL)

    (_, own, _) = request([THOUGHTFUL, RESULT])

    assert own == LLMSpecificMessage(llm="anthropic", message=before["message"])


def test_another_provider_gets_the_text_and_the_calls_of_it() -> None:
    (_, universal, _) = request([THOUGHTFUL, RESULT], "openai")

    assert universal == {"role": "assistant", "content": "Sure.", "tool_calls": [CALL]}


def test_a_thought_means_nothing_to_another_provider() -> None:
    thought: Message = {"llm": "anthropic", "message": {"type": "thought", "text": "Hm.", "signature": "c2ln"}}

    assert request([thought, {"role": "user", "content": "Hi"}], "openai") == [{"role": "user", "content": "Hi"}]


def test_text_beside_calls_is_split_for_anthropic_where_pipecat_would_drop_it() -> None:
    mixed: Message = {"role": "assistant", "content": "Sure.", "tool_calls": [CALL]}

    assert request([{"role": "user", "content": "Hi"}, mixed, RESULT])[1:3] == [
        {"role": "assistant", "content": "Sure."},
        {"role": "assistant", "tool_calls": [CALL]},
    ]


def test_the_messages_it_began_with_stay_the_same_objects() -> None:
    messages: list[Message] = [{"role": "user", "content": "Hi"}]
    transcript = Transcript(messages)
    transcript.add_assistant("Hello.")

    assert len(messages) == 1
    assert transcript.finished()[0] is messages[0]


def test_an_unanswered_call_is_neither_stored_nor_sent() -> None:
    transcript = Transcript([])
    transcript.add_reply({"role": "assistant", "tool_calls": [CALL]})

    with pytest.raises(BrokenContext, match=": a"):
        transcript.finished()
    with pytest.raises(BrokenContext, match=": a"):
        transcript.request("anthropic", ToolsSchema([]))

    transcript.add_tool_results([("a", {"größe": 1})])
    assert transcript.finished()[-1]["content"] == '{"größe": 1}'
