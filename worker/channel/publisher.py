"""Putting events on the channel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from redis.exceptions import RedisError

from worker.channel.connection import TIMEOUT_SECONDS, connect
from worker.errors import TurnWorkerError
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.client import Pipeline

    from worker.channel.document_envelope import DocumentEnvelope
    from worker.channel.envelope import Envelope

_MAX_CONNECTIONS = 4


class ChannelUnavailable(TurnWorkerError):
    """Events could not be published, because Redis did not take them in time."""

    code: ClassVar[str] = "channel_unavailable"
    retryable: ClassVar[bool] = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Redis took no events: {self.reason}. Check that Redis runs and that REDIS_URL leads to it. "
            "Nothing is lost: what was not published stays in the outbox and is published once Redis is back."
        )


class Publisher:
    """Publishes events that have been committed; one per process and event loop.

    Only ever call it after the commit of the transaction that recorded the events: a subscriber that hears of an event
    must find it in PostgreSQL. Publishing may be repeated, whole or in part; subscribers drop what they have by its
    sequence number. It needs no care after an outage of Redis: the next call connects again.
    """

    def __init__(self, redis_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Prepare to publish; nothing is sent or connected yet.

        Args:
            redis_url: where Redis is, e.g. `redis://host:6379/0`.
            timeout_seconds: how long one `publish` may take in all, in seconds.
        """
        # A connection may have died unnoticed since its last use, so one retry. Publishing twice does no harm.
        self._redis = connect(redis_url, name="turn-worker-publisher", max_connections=_MAX_CONNECTIONS, retries=1)
        self._timeout_seconds = timeout_seconds

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish events in their order, in one round trip.

        Raises:
            ChannelUnavailable: Redis did not confirm all of them within the time limit; any of them may have gone out.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for envelope in envelopes:
            message = envelope.encode()
            pipeline.publish(envelope.channel, message)
            if envelope.cancellation_channel is not None:
                pipeline.publish(envelope.cancellation_channel, message)
        await self._send(pipeline)

    async def announce(self, envelope: DocumentEnvelope) -> None:
        """Publish that a document's status changed.

        Raises:
            ChannelUnavailable: Redis did not confirm it within the time limit; it may have gone out.
        """
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.publish(envelope.channel, envelope.encode())
        await self._send(pipeline)

    async def close(self) -> None:
        """Close the connections. What was published before is not affected."""
        await self._redis.aclose()

    async def _send(self, pipeline: Pipeline) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await pipeline.execute()
        except TimeoutError:
            raise ChannelUnavailable(f"no answer within {self._timeout_seconds:g} s") from None
        except (RedisError, OSError) as error:
            raise ChannelUnavailable(mask_secrets(str(error)).rstrip(".")) from error
