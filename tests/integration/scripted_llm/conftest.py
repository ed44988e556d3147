from __future__ import annotations

from typing import TYPE_CHECKING

import anthropic
import openai
import pytest

from worker.embedded.scripted_llm import ScriptedLLM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM() as server:
        yield server


@pytest.fixture
async def claude(llm: ScriptedLLM) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(api_key="test-key", base_url=llm.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
async def gpt(llm: ScriptedLLM) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="test-key", base_url=f"{llm.base_url}/v1", max_retries=0) as client:
        yield client
