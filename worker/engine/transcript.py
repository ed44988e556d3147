"""The model's context, from one checkpoint to the next, and each request made from it.

Messages are kept in the notation that pipecat's universal context and OpenAI share, as long as it can hold all of what
the provider said. What it cannot hold (thinking, blocks of kinds yet unknown) is kept as the provider's own message, in
the form `{"llm": "<provider>", "message": {...}}`, and goes back to that provider untouched.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage

from worker.conversation.tool_calls import unpaired_tool_calls
from worker.engine.failures import BrokenContext
from worker.engine.llm.reply import portable
from worker.engine.prompts import NEUTRAL_USER_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
    from pydantic import JsonValue

    from worker.conversation.history import Message


class Transcript:
    """The messages of a conversation while a turn adds to them. Those it began with are never changed."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)
        self._journalled = len(self._messages)

    def add_user(self, content: JsonValue) -> None:
        """The user said something: text, or parts of which some are images."""
        self._messages.append({"role": "user", "content": content})

    def add_assistant(self, text: str) -> None:
        """The assistant said something without the model, such as a greeting."""
        self._messages.append({"role": "assistant", "content": text})

    def add_reply(self, message: Message) -> None:
        """The model replied."""
        self._messages.append(message)

    def add_tool_results(self, results: Iterable[tuple[str, JsonValue]]) -> None:
        """The tools that a reply called answered: the id and the result of each call, in the order of the calls."""
        for call_id, result in results:
            self._messages.append(_tool_result(call_id, result))
        self._journalled = len(self._messages)

    def replace(self, messages: Sequence[Message]) -> None:
        """The whole context became another, as when it is compacted."""
        self._messages = list(messages)

    def take_change(self) -> list[Message]:
        """What came in since this was last asked, tool results left out."""
        change = self._messages[self._journalled :]
        self._journalled = len(self._messages)
        return change

    def so_far(self, results: Mapping[str, JsonValue]) -> list[Message]:
        """The messages, with results of calls that are to follow once every call of the reply has its own."""
        return [*self._messages, *(_tool_result(call_id, result) for call_id, result in results.items())]

    def request(self, provider_id: str, tools: ToolsSchema) -> LLMContext:
        """Make the context of one request: a list of its own, so that nothing done to it reaches the transcript.

        Args:
            provider_id: Which provider's own messages can go back as they are: its name in pipecat's terms.
            tools: What the model may call.

        Raises:
            BrokenContext: As with `finished`: a provider would refuse it, in words that help nobody.
        """
        self._check_pairs()
        neutral = {"role": "user", "content": NEUTRAL_USER_MESSAGE}
        messages: list[Any] = [part for message in self._messages for part in _for_provider(message, provider_id)]
        if not messages or _speaker(messages[0]) == "assistant":
            messages.insert(0, neutral)
        if _speaker(messages[-1]) == "assistant":
            messages.append(neutral)
        return LLMContext(messages, tools)

    def finished(self) -> list[Message]:
        """The messages for the next checkpoint.

        Raises:
            BrokenContext: A tool call is left without a result, or a result without a call.
        """
        self._check_pairs()
        return self._messages

    def _check_pairs(self) -> None:
        if unpaired := unpaired_tool_calls(self._messages):
            raise BrokenContext(
                f"The conversation holds tool calls without a result, or results without a call: {', '.join(unpaired)}. "
                "Start the session again, or fork it from an earlier turn."
            )


def _tool_result(tool_call_id: str, result: JsonValue) -> Message:
    return {"role": "tool", "tool_call_id": tool_call_id, "content": json.dumps(result, ensure_ascii=False)}


def _for_provider(message: Message, provider_id: str) -> list[Any]:
    own = message.get("message")
    if isinstance(own, dict) and "role" not in message:
        if message.get("llm") == provider_id:
            return [LLMSpecificMessage(llm=provider_id, message=own)]
        if "role" not in own:  # a thought of the other provider, say: nobody else can use it
            return []
        message = portable(own)
    if provider_id == "anthropic" and message.get("tool_calls") and message.get("content"):
        # pipecat's Anthropic adapter drops the text of a message that also calls tools, but joins neighbours.
        return [
            {key: value for key, value in message.items() if key != "tool_calls"},
            {key: value for key, value in message.items() if key != "content"},
        ]
    return [message]


def _speaker(message: Any) -> Any:
    return (message.message if isinstance(message, LLMSpecificMessage) else message).get("role")
