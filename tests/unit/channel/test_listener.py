from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from worker.channel.envelope import Envelope
from worker.channel.listener import Gap, Listener


def event(sequence: int) -> Envelope:
    return Envelope(UUID(int=1), UUID(int=2), UUID(int=3), sequence, "turn.completed", datetime.now(UTC))


async def heard(listener: Listener) -> list[int | str]:
    """Everything unread, as sequence numbers and reasons of gaps."""
    listener.close()
    return [item.reason if isinstance(item, Gap) else item.sequence async for item in listener]


async def test_a_listener_hears_events_in_the_order_they_arrived() -> None:
    listener = Listener(buffer_size=10)
    for sequence in (1, 3, 2):
        listener.offer(event(sequence))
    assert await heard(listener) == [1, 3, 2]


async def test_a_listener_that_waits_is_woken_by_each_event() -> None:
    listener = Listener(buffer_size=10)
    for sequence in (1, 2):
        waiting = asyncio.ensure_future(anext(listener))
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        news = event(sequence)
        listener.offer(news)
        assert await waiting is news


async def test_a_listener_that_gave_up_waiting_loses_nothing() -> None:
    listener = Listener(buffer_size=10)
    try:
        async with asyncio.timeout(0):
            await anext(listener)
    except TimeoutError:
        pass
    listener.offer(event(1))
    assert await heard(listener) == [1]


async def test_a_listener_that_reads_too_slowly_gets_one_gap_for_all_it_missed() -> None:
    listener = Listener(buffer_size=3)
    for sequence in range(1, 1000):
        listener.offer(event(sequence))
        assert len(listener._unread) <= 3
    listener.mark_gap(Gap("overflow"))
    listener.offer(event(1000))
    assert await heard(listener) == ["overflow", 1000]


async def test_a_full_buffer_is_no_overflow_yet() -> None:
    listener = Listener(buffer_size=3)
    for sequence in (1, 2, 3):
        listener.offer(event(sequence))
    assert await heard(listener) == [1, 2, 3]


async def test_one_event_more_than_the_buffer_holds_leaves_only_the_gap() -> None:
    listener = Listener(buffer_size=3)
    for sequence in (1, 2, 3, 4):
        listener.offer(event(sequence))
    assert await heard(listener) == ["overflow"]


async def test_a_gap_stands_for_everything_unread_before_it() -> None:
    listener = Listener(buffer_size=10)
    listener.offer(event(1))
    listener.mark_gap(Gap("reconnected"))
    listener.offer(event(2))
    assert await heard(listener) == ["reconnected", 2]


async def test_closing_ends_a_listener_that_is_waiting() -> None:
    listener = Listener(buffer_size=10)
    waiting = asyncio.ensure_future(heard_until_the_end(listener))
    await asyncio.wait([waiting], timeout=0)
    listener.close()
    assert await waiting == []


async def heard_until_the_end(listener: Listener) -> list[Envelope | Gap]:
    return [item async for item in listener]
