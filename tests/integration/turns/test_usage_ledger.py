"""What LLM calls used gets into the books, whatever others report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.conversation.usage import LLMUsage
from worker.embedded.scripted_llm import Script
from worker.engine.request import LLMCall
from worker.storage.usage import UsageEntry
from worker.turns.usage_ledger import UsageLedger

if TYPE_CHECKING:
    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.storage.claim import Attempt

LARGEST = 2**31 - 1


async def attempt_of(world: World) -> Attempt:
    turn = await world.enqueue((await world.session()).session_id)
    return (await world.claim(turn.turn_id)).attempt


def entry_of(attempt: Attempt, call: int, tokens: int = 1) -> UsageEntry:
    return UsageEntry(
        organization_id=attempt.organization_id,
        turn_id=attempt.turn_id,
        attempt=attempt.attempt,
        call=call,
        processor="processor",
        model="model",
        prompt_tokens=tokens,
        completion_tokens=tokens,
        total_tokens=tokens,
        cache_read_input_tokens=0,
        cache_creation_input_tokens=0,
    )


async def entries(world: World) -> list[Any]:
    return await world.rows("SELECT * FROM usage_entries ORDER BY call")


async def test_an_entry_that_cannot_be_stored_is_dropped_and_those_beside_and_after_it_are_written(
    world: World,
) -> None:
    attempt = await attempt_of(world)
    ledger = UsageLedger(world.database)
    ledger.write([entry_of(attempt, 1), entry_of(attempt, 2, tokens=LARGEST + 1), entry_of(attempt, 3)])
    await ledger.drain()
    assert [entry.call for entry in await entries(world)] == [1, 3]
    ledger.write([entry_of(attempt, 4)])
    await ledger.drain()
    assert [entry.call for entry in await entries(world)] == [1, 3, 4]


async def test_counts_and_names_that_postgresql_cannot_hold_are_brought_into_bounds(world: World) -> None:
    ledger = UsageLedger(world.database)
    page = ledger.of(await attempt_of(world))
    usage = LLMUsage(prompt_tokens=-1, completion_tokens=7, total_tokens=3_000_000_000)
    call = LLMCall(number=1, processor="processor", model="a\0b\ud83d", usage=usage)
    page.record(call)
    page.record(replace(call, number=2, turn_goes_on=True))
    await ledger.drain()
    for entry in await entries(world):
        assert (entry.model, entry.prompt_tokens, entry.completion_tokens) == ("ab?", 0, 7)
        assert entry.total_tokens == LARGEST
    assert len(await entries(world)) == 2


async def test_a_turn_whose_model_reports_an_absurd_count_is_completed(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    rule = {"reply": "Good morning.", "usage": {"output_tokens": 3_000_000_000}}
    llm.set_script(Script.model_validate({"rules": [rule]}))
    turn = await world.enqueue((await world.session()).session_id)
    assert await worker.execute(turn.turn_id) == "completed"
    (entry,) = await entries(world)
    assert (entry.completion_tokens, entry.total_tokens) == (LARGEST, LARGEST)
