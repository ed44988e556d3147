"""Reading along while workers die: nothing is read twice, and what is void is called so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system import Caller, System


async def test_text_is_read_while_the_model_still_talks(caller: Caller, system: System) -> None:
    system.play({"reply": "Good morning to you.", "chunk_characters": 5, "hold": "rest", "hold_after": 2})
    turn = await caller.client.enqueue(await caller.session(), "Hello.")
    steps = caller.client.stream_text(turn.id)
    first = await asyncio.wait_for(anext(steps), 20)
    assert "Good morning to you.".startswith(first.text)
    assert first.update.type == "text"
    system.llm.release("rest")
    *_, last = [said async for said in steps]
    assert (last.text, last.update.status) == ("Good morning to you.", "completed")


async def test_a_reader_is_told_that_the_words_of_a_lost_worker_are_void(caller: Caller, system: System) -> None:
    system.play(
        {"times": 1, "reply": "Half a sentence.", "chunk_characters": 4, "hold": "never", "hold_after": 2},
        {"reply": "Said by another one."},
    )
    turn = await caller.client.enqueue(await caller.session(), "Hello.")
    steps = caller.client.stream_text(turn.id)
    first = await asyncio.wait_for(anext(steps), 20)
    assert "Half a sentence.".startswith(first.text)
    (await caller.holder(turn.id)).kill()
    rest = [said async for said in steps]
    assert any(said.reset for said in rest)
    assert (rest[-1].text, rest[-1].update.status) == ("Said by another one.", "completed")
