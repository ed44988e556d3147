"""A real language model, software that is not ours, at the other end of the whole system."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from typing import TYPE_CHECKING

import pytest

from tests.processes import Process
from worker.storage.organizations import set_model_defaults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api_stub.client import Turn
    from tests.system import Caller, System

pytestmark = [
    pytest.mark.local_llm,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="install it with: make local-llm"),
]

MAX_TOKENS = 12


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    model = Process("--port", "0", module="worker.embedded.local_llm", environment=os.environ)
    try:
        said = model.log.wait("^Local LLM", {}, 1, 60.0)["event"]
        yield said.partition(" at ")[2].partition(" ")[0]
    finally:
        model.dispose()


async def test_a_real_model_holds_a_conversation_through_the_whole_system(
    caller: Caller, system: System, model_url: str
) -> None:
    async with caller.world.database.transaction() as connection:
        await set_model_defaults(
            connection,
            organization_id=caller.world.organization_id,
            model_defaults={
                "base_url": model_url,
                "api_key": {"environment": "ANTHROPIC_API_KEY"},
                "max_tokens": MAX_TOKENS,
            },
        )
    session = await caller.session()
    turns: list[Turn] = []
    async with (
        asyncio.timeout(90),
        caller.client.subscribe(session_id=session, redis_url=system.redis.url) as events,
    ):
        for text in ("Good morning, my name is Ada.", "What is my name?"):
            turn = await caller.client.enqueue(session, text)
            async for event in events:
                if event.type == "turn.completed":
                    break
            turns.append(await caller.client.get_turn(turn.id))
    first, second = turns
    assert second.parent_turn_id == first.id
    for turn in turns:
        assert (turn.status, turn.attempt) == ("completed", 1)
        assert turn.assistant_text
        (usage,) = turn.usage["llm"].values()
        assert 0 < usage["completion_tokens"] <= MAX_TOKENS
    assert system.llm.requests == [], "nobody asked the scripted one"
