"""What follows a commit: events go out on the channel, and whoever can run a turn is told of it.

Nothing here can fail a turn. What is not published or rung is found by a sweep.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from worker.channel.envelope import Envelope
from worker.channel.event_types import (
    SESSION_ENDED,
    STATUS_REPORTED,
    TURN_CANCELLED,
    TURN_COMPLETED,
    TURN_ENQUEUED,
    TURN_FAILED,
    TURN_RETRYING,
)
from worker.errors import TurnWorkerError
from worker.storage.backlog import Line, choose_turns, forget_rings
from worker.storage.completions import SessionReference
from worker.storage.outbox import RecordedEvent, mark_published
from worker.telemetry import names, signals, tracing
from worker.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Iterator, Sequence
    from uuid import UUID

    from worker.channel.publisher import Publisher
    from worker.storage.database import Database
    from worker.storage.documents import DocumentReference
    from worker.telemetry.tracing import Place

log = structlog.get_logger(__name__)

# Marks are written together: far sooner than a sweep would look, far later than the event went out.
_MARK_DELAY_SECONDS = 0.25

# After these, a line may have another head, or a worker room for one turn more.
_LINE_CHANGING = frozenset({TURN_ENQUEUED, TURN_COMPLETED, TURN_FAILED, TURN_CANCELLED, TURN_RETRYING})


@dataclass(frozen=True, slots=True)
class TurnReference:
    """All that a message of the queue carries.

    Attributes:
        trace_context: The W3C trace context of who rang, for a span to link to; it makes no other turn of it.
    """

    organization_id: UUID
    turn_id: UUID
    trace_context: dict[str, str] | None = field(default=None, compare=False)


class Doorbell(Protocol):
    """Tells some worker that a turn can be claimed. It may ring in vain, twice, or not at all: the claim decides."""

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        """Ring for each turn.

        Raises:
            TurnWorkerError: when the broker cannot be reached within a few seconds.
        """

    async def ring_for_document(self, document: DocumentReference) -> None:
        """Ring for a document that can be claimed.

        Raises:
            TurnWorkerError: when the broker cannot be reached within a few seconds.
        """

    async def ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        """Ring for each session at whose end there may be something to do.

        Raises:
            TurnWorkerError: when the broker cannot be reached within a few seconds.
        """


class Dispatch:
    """Publishes and rings after a commit, in the background, one per process and event loop."""

    def __init__(
        self, database: Database, publisher: Publisher, doorbell: Doorbell, telemetry: Telemetry | None = None
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._doorbell = doorbell
        self._telemetry = telemetry or Telemetry()
        self._to_publish: list[RecordedEvent] = []
        self._places: dict[Place, int] = {}
        self._to_mark: list[RecordedEvent] = []
        self._publishing: asyncio.Task[None] | None = None
        self._marking: asyncio.TimerHandle | None = None
        self._to_ring: list[TurnReference] = []
        self._ringing: asyncio.Task[None] | None = None
        self._changed: list[Line] = []
        self._choosing: asyncio.Task[None] | None = None
        self._draining = False
        self._later: set[asyncio.TimerHandle] = set()
        self._background: set[asyncio.Task[None]] = set()

    def after_commit(self, events: Sequence[RecordedEvent], ring: Sequence[TurnReference] = ()) -> None:
        """Publish `events`, in this order, and ring for the turns that the commit noted as rung. Returns at once.

        Where the events say that a line has changed and no turn is named in `ring`, it rings for whichever turns are next,
        of those at the heads of lines and those in the backlog. Only a look after the commit is sure to see what others
        committed at the same time.
        """
        # A worker that is told sooner starts sooner; nobody waits for the news that a turn is pending.
        self._ring_soon(ring)
        self._to_publish.extend(events)
        if events and (place := tracing.here()) is not None:
            self._places[place] = len(events)
        if self._to_publish and self._publishing is None:
            self._publishing = self._start(self._publish())
        ended = [
            SessionReference(event.organization_id, event.session_id) for event in events if event.type == SESSION_ENDED
        ]
        if ended:
            self._start(self._ring_for_sessions(ended))
        if not ring:
            self._look_at(
                {Line(event.organization_id, event.session_id) for event in events if event.type in _LINE_CHANGING}
            )

    def document_uploaded(self, document: DocumentReference) -> None:
        """Ring for a document that was committed. Returns at once."""
        self._start(self._ring_for_document(document))

    def look_later(self, line: Line, delay_seconds: float) -> None:
        """Ring for the head of the line, if there is room, when its pause is over. If this process ends before, a sweep does."""

        def look() -> None:
            self._later.discard(timer)
            self._look_at([line])

        timer = asyncio.get_running_loop().call_later(delay_seconds, look)
        self._later.add(timer)

    async def publish(self, events: Sequence[RecordedEvent]) -> None:
        """Send events to the channel now.

        Raises:
            ChannelUnavailable: when Redis cannot be reached.
        """
        await self._publisher.publish([_envelope(event) for event in events])
        if self._telemetry.metrics is not None:
            self._telemetry.metrics.events_published(len(events))

    def complete_later(self, session: SessionReference, delay_seconds: float) -> None:
        """Ring for a session's end when its pause is over. If this process ends before, a sweep does."""

        def ring() -> None:
            self._later.discard(timer)
            self._start(self._ring_for_sessions([session]))

        timer = asyncio.get_running_loop().call_later(delay_seconds, ring)
        self._later.add(timer)

    async def ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        """Ring for ends of sessions now.

        Raises:
            TurnWorkerError: when the broker cannot be reached.
        """
        await self._doorbell.ring_for_sessions(sessions)

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        """Ring for turns now.

        Raises:
            TurnWorkerError: when the broker cannot be reached.
        """
        await self._doorbell.ring(turns)

    async def drain(self) -> None:
        """Finish what was begun: publish, ring and mark what is outstanding, as far as Redis answers."""
        self._draining = True
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
                with self._traced_publishing():
                    await self.publish(events)
                self._to_mark.extend(events)
                if self._marking is None:
                    loop = asyncio.get_running_loop()
                    self._marking = loop.call_later(_MARK_DELAY_SECONDS, self._start_marking)
        except TurnWorkerError as error:
            log.warning(names.CHANNEL_PUBLISH_FAILED, error=str(error), events=len(events))
        finally:
            self._publishing = None

    @contextmanager
    def _traced_publishing(self) -> Iterator[None]:
        """Add what is published now to the traces of all the turns that left something to publish."""
        places, self._places = self._places, {}
        began, error = time.time_ns(), None
        try:
            yield
        except TurnWorkerError as failure:
            error = failure.code
            raise
        finally:
            for place, count in places.items():
                attributes = {signals.EVENT_COUNT: count}
                place.record(
                    signals.SPAN_PUBLISH, kind="producer", started_ns=began, attributes=attributes, error=error
                )

    async def _ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        try:
            await self.ring_for_sessions(sessions)
        except TurnWorkerError as error:
            session_ids = [str(session.session_id) for session in sessions]
            log.warning(names.RING_FAILED, error=str(error), session_ids=session_ids)

    def _ring_soon(self, turns: Sequence[TurnReference]) -> None:
        self._to_ring.extend(turns)
        if self._to_ring and self._ringing is None:
            self._ringing = self._start(self._ring())

    async def _ring(self) -> None:
        # One batch at a time: while the broker does not answer, those that come meanwhile wait together for one timeout, not
        # each for its own.
        try:
            while self._to_ring:
                turns, self._to_ring = self._to_ring, []
                try:
                    await self.ring(turns)
                except TurnWorkerError as error:
                    turns = [*turns, *(self._to_ring if self._draining else ())]
                    log.warning(names.RING_FAILED, error=str(error), turn_ids=[str(turn.turn_id) for turn in turns])
                    await self._return_to_backlog(turns)
                    if self._draining:
                        self._to_ring.clear()
        finally:
            self._ringing = None

    async def _ring_for_document(self, document: DocumentReference) -> None:
        try:
            await self._doorbell.ring_for_document(document)
        except TurnWorkerError as error:
            log.warning(names.RING_FAILED, error=str(error), document_id=str(document.document_id))

    async def _return_to_backlog(self, turns: Sequence[TurnReference]) -> None:
        try:
            async with self._database.statement() as connection:
                await forget_rings(connection, [(turn.organization_id, turn.turn_id) for turn in turns])
        except TurnWorkerError as error:  # a sweep finds rings that led to nothing
            log.warning(names.RING_FAILED, error=str(error), turn_ids=[str(turn.turn_id) for turn in turns])

    def _look_at(self, lines: Collection[Line]) -> None:
        self._changed.extend(lines)
        if self._changed and self._choosing is None:
            self._choosing = self._start(self._choose())

    async def _choose(self) -> None:
        # One look at a time, for all lines that changed meanwhile: under load a look serves many turns.
        try:
            while self._changed:
                lines, self._changed = self._changed, []
                async with self._database.statement() as connection:
                    chosen = await choose_turns(connection, lines=lines, at_most=len(lines))
                self._ring_soon([TurnReference(*turn) for turn in chosen])
        except TurnWorkerError as error:
            log.warning(names.RING_FAILED, error=str(error), session_ids=[str(line.session_id) for line in lines])
        finally:
            self._choosing = None

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
