"""What follows a commit: events go out on the channel, and whoever can run a turn is told of it.

Nothing here can fail a turn. What is not published or rung is found by a sweep.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from worker.channel.envelope import Envelope
from worker.channel.event_types import STATUS_REPORTED, TURN_CANCELLED, TURN_COMPLETED, TURN_ENQUEUED, TURN_FAILED
from worker.errors import TurnWorkerError
from worker.storage.line import claimable_turn
from worker.storage.outbox import RecordedEvent, mark_published
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from uuid import UUID

    from worker.channel.publisher import Publisher
    from worker.storage.database import Database

log = structlog.get_logger(__name__)

# Marks are written together: far sooner than a sweep would look, far later than the event went out.
_MARK_DELAY_SECONDS = 0.25

_LINE_CHANGING = frozenset({TURN_ENQUEUED, TURN_COMPLETED, TURN_FAILED, TURN_CANCELLED})


@dataclass(frozen=True, slots=True)
class TurnReference:
    """All that a message of the queue carries."""

    organization_id: UUID
    turn_id: UUID


class Doorbell(Protocol):
    """Tells some worker that a turn can be claimed. It may ring in vain, twice, or not at all: the claim decides."""

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        """Ring for each turn.

        Raises:
            TurnWorkerError: when the broker cannot be reached within a few seconds.
        """


class Dispatch:
    """Publishes and rings after a commit, in the background, one per process and event loop."""

    def __init__(self, database: Database, publisher: Publisher, doorbell: Doorbell) -> None:
        self._database = database
        self._publisher = publisher
        self._doorbell = doorbell
        self._to_publish: list[RecordedEvent] = []
        self._to_mark: list[RecordedEvent] = []
        self._publishing: asyncio.Task[None] | None = None
        self._marking: asyncio.TimerHandle | None = None
        self._later: set[asyncio.TimerHandle] = set()
        self._background: set[asyncio.Task[None]] = set()

    def after_commit(self, events: Sequence[RecordedEvent], ring: Sequence[TurnReference] = ()) -> None:
        """Publish `events`, in this order, and ring for the turns that the commit made claimable. Returns at once.

        Where the events say that a line has changed and no turn is named in `ring`, it rings for whichever turn can be
        claimed now. Only a look after the commit is sure to see what others committed at the same time.
        """
        self._to_publish.extend(events)
        if self._to_publish and self._publishing is None:
            self._publishing = self._start(self._publish())
        if ring:
            self._start(self._ring(ring))
        else:
            for organization_id, session_id in {
                (event.organization_id, event.session_id) for event in events if event.type in _LINE_CHANGING
            }:
                self._start(self._ring_head_of_line(organization_id, session_id))

    def ring_later(self, turn: TurnReference, delay_seconds: float) -> None:
        """Ring when a pause is over. If this process ends before, a sweep rings."""

        def ring() -> None:
            self._later.discard(timer)
            self._start(self._ring([turn]))

        timer = asyncio.get_running_loop().call_later(delay_seconds, ring)
        self._later.add(timer)

    async def publish(self, events: Sequence[RecordedEvent]) -> None:
        """Send events to the channel now.

        Raises:
            ChannelUnavailable: when Redis cannot be reached.
        """
        await self._publisher.publish([_envelope(event) for event in events])

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        """Ring for turns now.

        Raises:
            TurnWorkerError: when the broker cannot be reached.
        """
        await self._doorbell.ring(turns)

    async def drain(self) -> None:
        """Finish what was begun: publish, ring and mark what is outstanding."""
        for timer in self._later:
            timer.cancel()
        while self._background:
            await asyncio.wait(self._background)
        if self._marking is not None:
            self._marking.cancel()
        await self._mark()

    async def _publish(self) -> None:
        try:
            while self._to_publish:
                events, self._to_publish = self._to_publish, []
                await self.publish(events)
                self._to_mark.extend(events)
                if self._marking is None:
                    loop = asyncio.get_running_loop()
                    self._marking = loop.call_later(_MARK_DELAY_SECONDS, self._start_marking)
        except TurnWorkerError as error:
            log.warning(names.CHANNEL_PUBLISH_FAILED, error=str(error), events=len(events))
        finally:
            self._publishing = None

    async def _ring(self, turns: Sequence[TurnReference]) -> None:
        try:
            await self.ring(turns)
        except TurnWorkerError as error:
            log.warning(names.RING_FAILED, error=str(error), turn_ids=[str(turn.turn_id) for turn in turns])

    async def _ring_head_of_line(self, organization_id: UUID, session_id: UUID) -> None:
        try:
            async with self._database.statement() as connection:
                turn_id = await claimable_turn(connection, organization_id=organization_id, session_id=session_id)
        except TurnWorkerError as error:
            log.warning(names.RING_FAILED, error=str(error), session_id=str(session_id))
            return
        if turn_id is not None:
            await self._ring([TurnReference(organization_id, turn_id)])

    def _start_marking(self) -> None:
        self._marking = None
        self._start(self._mark())

    async def _mark(self) -> None:
        events, self._to_mark = self._to_mark, []
        if not events:
            return
        try:
            async with self._database.statement() as connection:
                await mark_published(connection, events)
        except TurnWorkerError as error:
            log.warning(names.OUTBOX_MARK_FAILED, error=str(error), events=len(events))

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _envelope(event: RecordedEvent) -> Envelope:
    return Envelope(
        organization_id=event.organization_id,
        session_id=event.session_id,
        turn_id=event.turn_id,
        sequence=event.sequence,
        type=event.type,
        time=event.created_at,
        status=STATUS_REPORTED.get(event.type),
        revision=event.revision,
    )
