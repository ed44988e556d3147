"""Following the channel: one subscription per process, and any number of listeners on it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio.connection import parse_url
from redis.backoff import EqualJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from worker.channel.connection import TIMEOUT_SECONDS, connect
from worker.channel.document_envelope import DOCUMENTS_PREFIX
from worker.channel.envelope import Envelope, UnreadableEnvelope, channel_pattern
from worker.channel.listener import Gap, Listener
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from uuid import UUID

    from redis.asyncio.client import PubSub

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
_SILENCE_SECONDS: Final = 10.0
_BUFFER_SIZE: Final = 256
_EVERYTHING: Final = b"*"

_log = structlog.get_logger(__name__)


class Subscriber:
    """One Redis subscription, shared by every listener of this process and event loop.

    Redis sends every event of the pattern to every such process, so an event that nobody listens to costs no more
    than a look at its channel's name; only those listened to are decoded, once for all their listeners.

    It takes care of itself: when Redis goes away it connects again, with growing pauses, and then hands each listener
    a `Gap`. The gap comes after the new subscription is confirmed, so nothing can fall between the two.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        patterns: Sequence[str] = (channel_pattern(), f"{DOCUMENTS_PREFIX}*"),
        buffer_size: int = _BUFFER_SIZE,
        silence_seconds: float = _SILENCE_SECONDS,
    ) -> None:
        """Prepare to subscribe; nothing is connected yet.

        Args:
            redis_url: where Redis is, e.g. `redis://host:6379/0`. Pub/sub knows no databases: the number is ignored.
            patterns: what to subscribe to, see `channel_pattern`; by default everything, of documents too.
            buffer_size: how many unread events a listener may pile up before they become a gap.
            silence_seconds: after this long without a message Redis is asked for a sign of life; when none comes for
                as long again, the connection counts as lost. In seconds.

        Raises:
            ValueError: the URL is none that Redis clients understand.
        """
        parse_url(redis_url)
        self._redis_url = redis_url
        self._patterns = patterns
        self._buffer_size = buffer_size
        self._silence_seconds = silence_seconds
        # Keyed by the ids as they stand in channel names, so that the name alone tells whether anyone listens.
        self._listeners: dict[bytes, set[Listener]] = {}
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether events are coming in at this moment; for readiness checks."""
        return self._connected.is_set()

    async def start(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Subscribe, and return once Redis has confirmed it.

        When Redis cannot be reached within `timeout_seconds` it returns all the same and goes on trying: `connected`
        tells, and listeners get a gap as soon as the subscription stands. Calling it again only waits for that.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._stay_subscribed(), name="channel-subscriber")
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._connected.wait()

    async def close(self) -> None:
        """Unsubscribe. Listeners can still read what they were given, and then end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        for listener in self._all_listeners():
            listener.close()

    @asynccontextmanager
    async def listen(self, about: UUID | None) -> AsyncGenerator[Listener]:
        """Listen to everything about one session, one turn or one document, for as long as the context is open.

        Listening starts on entry, so enter first, then read PostgreSQL, then iterate: whatever happens after the read
        is heard. Losing a message is unlikely but possible; read again now and then while nothing comes.

        Args:
            about: the id of the session, the turn or the document; None for everything that the subscription's pattern covers.
        """
        key = _EVERYTHING if about is None else str(about).encode()
        listener = Listener(buffer_size=self._buffer_size)
        self._listeners.setdefault(key, set()).add(listener)
        try:
            yield listener
        finally:
            self._listeners[key].discard(listener)
            if not self._listeners[key]:
                del self._listeners[key]

    async def _stay_subscribed(self) -> None:
        backoff = EqualJitterBackoff(base=_FIRST_PAUSE_SECONDS, cap=_LONGEST_PAUSE_SECONDS)
        failures = 0
        while True:
            try:
                # A client per connection: nothing that befell the last one can stand in the way of the next.
                client = connect(self._redis_url, name="turn-worker-subscriber", max_connections=1, retries=0)
                async with client, client.pubsub() as subscription:
                    await self._subscribe(subscription)
                    failures = 0
                    await self._follow(subscription)
            except (RedisError, OSError) as error:
                if failures == 0:
                    _log.warning(names.CHANNEL_LOST, error=str(error))
            except Exception:  # noqa: BLE001 -- a defect must cost a reconnect, not all news for the life of the process
                _log.exception(names.CHANNEL_LOST)
            failures += 1
            await asyncio.sleep(backoff.compute(failures))

    async def _subscribe(self, subscription: PubSub) -> None:
        await subscription.psubscribe(*self._patterns)
        for _ in self._patterns:
            if await subscription.get_message(timeout=TIMEOUT_SECONDS) is None:
                raise RedisConnectionError(f"Redis did not confirm the subscription within {TIMEOUT_SECONDS:g} s")

    async def _follow(self, subscription: PubSub) -> None:
        self._connected.set()
        _log.info(names.CHANNEL_CONNECTED, pattern=" ".join(self._patterns))
        for listener in self._all_listeners():
            listener.mark_gap(Gap("reconnected"))
        try:
            await self._deliver_all(subscription)
        finally:
            self._connected.clear()

    async def _deliver_all(self, subscription: PubSub) -> None:
        asked_for_a_sign = False
        while True:
            message = await subscription.get_message(timeout=self._silence_seconds)
            if message is not None:
                asked_for_a_sign = False
                if message["type"] == "pmessage":
                    self._deliver(message["channel"], message["data"])
            elif asked_for_a_sign:
                raise RedisConnectionError(f"Redis gave no sign of life for {2 * self._silence_seconds:g} s")
            else:
                await subscription.ping()
                asked_for_a_sign = True

    def _deliver(self, channel: bytes, message: bytes) -> None:
        # turns.{organization}.{session}.{turn}, the same of cancelled turns, or documents.{organization}.{document}
        ids = channel.split(b".")[2:]
        interested = [listener for id_ in (*ids, _EVERYTHING) for listener in self._listeners.get(id_, ())]
        if not interested:
            return
        if channel.startswith(DOCUMENTS_PREFIX.encode()):
            for listener in interested:
                listener.mark_gap(Gap("changed"))
            return
        try:
            envelope = Envelope.decode(message)
        except UnreadableEnvelope as error:
            _log.warning(names.CHANNEL_MESSAGE_UNREADABLE, channel=channel.decode(errors="replace"), error=str(error))
            for listener in interested:
                listener.mark_gap(Gap("unreadable"))
            return
        for listener in interested:
            listener.offer(envelope)

    def _all_listeners(self) -> Iterator[Listener]:
        return chain.from_iterable(self._listeners.values())
