"""How many calls pass at once, after the provider said that it were too many."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from worker.engine.failures import LLMRateLimited, LLMUnavailable
from worker.engine.llm.gate import CallGate


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> CallGate:
    return CallGate(clock)


def refused(retry_after_seconds: float | None = 5.0) -> LLMRateLimited:
    return LLMRateLimited("Too many.", retry_after_seconds)


async def enter(gate: CallGate, count: int) -> list[asyncio.Task[None]]:
    """So many calls at once, as far as they pass or begin to wait."""
    calls = [asyncio.create_task(gate.enter(60)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return calls


async def narrowed(gate: CallGate, clock: Clock, *, to: int) -> None:
    """The provider refused a call at twice this number, and the pause it asked for is over."""
    await enter(gate, 2 * to)
    gate.leave(refused())
    for _ in range(2 * to - 1):
        gate.leave()
    clock.now += 5
    assert (gate.limit, gate.active) == (to, 0)


async def test_everything_passes_until_a_call_is_refused(gate: CallGate) -> None:
    await enter(gate, 1000)
    gate.leave(LLMUnavailable("Broken."))
    gate.leave(answered=True)
    assert (gate.active, gate.limit, gate.waiting) == (998, None, 0)


async def test_a_refusal_halves_the_number_once_however_many_calls_were_refused_with_it(gate: CallGate) -> None:
    await enter(gate, 40)
    for _ in range(30):
        gate.leave(refused())
    assert gate.limit == 20


async def test_calls_wait_while_there_is_no_place_and_go_on_in_their_order(gate: CallGate, clock: Clock) -> None:
    await narrowed(gate, clock, to=2)
    first, second, third, fourth = await enter(gate, 4)
    assert [call.done() for call in (first, second, third, fourth)] == [True, True, False, False]
    gate.leave(LLMUnavailable("Broken."))
    await third
    assert (gate.active, gate.waiting) == (2, 1)
    gate.leave()
    await fourth


async def test_nothing_passes_before_the_time_the_provider_named(gate: CallGate, clock: Clock) -> None:
    await enter(gate, 8)
    gate.leave(refused(7))
    for _ in range(7):
        gate.leave()
    (waiting,) = await enter(gate, 1)
    clock.now += 6.9
    gate._let_in()
    assert not waiting.done()
    clock.now += 0.2
    gate._let_in()
    await waiting


async def test_it_opens_again_by_itself_when_that_time_is_over() -> None:
    gate = CallGate()
    await gate.enter(60)
    gate.leave(refused(0.01))
    await asyncio.wait_for(gate.enter(60), 10)
    assert gate.active == 1


async def test_who_waits_is_let_in_when_the_time_that_was_named_meanwhile_is_over() -> None:
    gate = CallGate()
    for call in await enter(gate, 2):
        await call
    gate.leave(refused(0.0))
    gate.leave()
    (first,) = await enter(gate, 1)
    await first
    (waiting,) = await enter(gate, 1)
    assert (gate.limit, gate.active, gate.waiting) == (1, 1, 1)
    gate.leave(refused(0.01))
    await asyncio.wait_for(waiting, 10)


async def test_the_number_rises_by_one_with_each_round_of_answers_and_in_the_end_is_unlimited(
    gate: CallGate, clock: Clock
) -> None:
    await narrowed(gate, clock, to=4)
    limits = []
    while gate.limit is not None:
        await gate.enter(60)
        gate.leave(answered=True)
        limits.append(gate.limit)
    assert limits[:5] == [4, 4, 4, 4, 5]
    assert limits[-2] == 15, "twice as many as were refused"


async def test_who_waits_in_vain_is_told_that_it_is_the_providers_limit(gate: CallGate, clock: Clock) -> None:
    await narrowed(gate, clock, to=1)
    await gate.enter(60)
    with pytest.raises(LLMRateLimited, match=r"for 0\.01 s there was no place"):
        await gate.enter(0.01)
    assert (gate.active, gate.waiting) == (1, 0)


async def test_a_turn_that_is_stopped_while_it_waits_leaves_no_trace(gate: CallGate, clock: Clock) -> None:
    await narrowed(gate, clock, to=1)
    _, waiting = await enter(gate, 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.leave()
    assert (gate.active, gate.waiting) == (0, 0)


async def test_a_turn_that_is_stopped_just_as_it_is_let_in_gives_its_place_to_the_next(
    gate: CallGate, clock: Clock
) -> None:
    await narrowed(gate, clock, to=1)
    _, stopped, next_one = await enter(gate, 3)
    gate.leave()
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    await next_one
    assert (gate.active, gate.waiting) == (1, 0)


async def test_a_minute_after_a_refusal_nothing_is_limited_any_more(gate: CallGate, clock: Clock) -> None:
    await narrowed(gate, clock, to=1)
    clock.now += 120
    held = await enter(gate, 3)

    assert gate.active == 3
    assert gate.limit is None
    for call in held:
        await call
        gate.leave(answered=True)
