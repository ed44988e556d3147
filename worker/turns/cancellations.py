"""Hears that turns were cancelled, and stops those that run in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.channel.envelope import Envelope

if TYPE_CHECKING:
    from worker.channel.subscriber import Subscriber
    from worker.turns.executor import TurnExecutor


async def stop_cancelled_turns(subscriber: Subscriber, executor: TurnExecutor) -> None:
    """Follow the channel of cancellations until the subscriber is closed.

    What it does not hear, because Redis was away or a message was lost, the lease keeper finds in PostgreSQL.
    """
    async with subscriber.listen(None) as listener:
        async for news in listener:
            if isinstance(news, Envelope) and news.turn_id is not None:
                executor.stop(news.turn_id)
