"""How the tests of the scripted LLM talk to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.embedded.scripted_llm import Script

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message

    from worker.embedded.scripted_llm import ScriptedLLM

MODEL = "claude-sonnet-5"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
ANTHROPIC_HEADERS = {"x-api-key": "test-key", "anthropic-version": "2023-06-01"}


def play(llm: ScriptedLLM, *rules: dict[str, Any], **script: Any) -> None:
    llm.set_script(Script.model_validate({"rules": rules, **script}))


async def streamed(client: AsyncAnthropic, messages: list[Any] | str = "Hello", **options: Any) -> Message:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": messages, **options}
    async with client.messages.stream(**asked) as stream:
        return await stream.get_final_message()


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")
