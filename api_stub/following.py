"""Waiting for what is yet to happen, without holding a connection.

Every wait first registers with the process's one subscription, then reads PostgreSQL, then sleeps until news comes. News
only wakes: what is told is always read from PostgreSQL. A slow re-read covers a message that was lost.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import StreamingResponse

from api_stub.answers import encode
from api_stub.schemas import FINAL_DOCUMENT_STATUSES, TERMINAL_STATUSES
from worker.channel.event_types import STATUS_REPORTED
from worker.channel.listener import Gap
from worker.errors import TurnWorkerError
from worker.storage.documents import get_document
from worker.storage.event_log import EventLog
from worker.storage.turn_views import get_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from starlette.types import Send

    from api_stub.services import Services
    from worker.channel.envelope import Envelope
    from worker.channel.listener import Listener
    from worker.storage.documents import Document
    from worker.storage.event_log import EventView
    from worker.storage.turn_views import TurnView

ReadLog = Callable[[int, int], Awaitable[EventLog | None]]
"""Reads the events behind a number, at most so many; None if whose log it was is not there."""

MAX_WAIT_SECONDS: Final = 30.0
PAGE_SIZE: Final = 100
_REREAD_SECONDS: Final = 10.0
_REREAD_SECONDS_WITHOUT_NEWS: Final = 1.0


async def wait_for_turn(
    services: Services, *, organization_id: UUID, turn_id: UUID, seconds: float | None
) -> TurnView | None:
    """The turn as soon as it has taken its final status, or as it is after `seconds` or at the end of this process.

    `seconds` None waits for as long as it takes. None is returned if there is no such turn.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (math.inf if seconds is None else min(seconds, MAX_WAIT_SECONDS))
    async with services.subscriber.listen(turn_id) as listener:
        while True:
            async with services.database.statement() as connection:
                turn = await get_turn(connection, organization_id=organization_id, turn_id=turn_id)
            left = deadline - loop.time()
            if turn is None or turn.status in TERMINAL_STATUSES or left <= 0:
                return turn
            if not await _news(services, listener, left, _ends_a_turn):
                return turn


async def wait_for_document(
    services: Services, *, organization_id: UUID, document_id: UUID, seconds: float
) -> Document:
    """The document as soon as it is ready or failed, or as it is after `seconds`.

    Raises:
        DocumentNotFound: when there is no such document, or none any more.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(seconds, MAX_WAIT_SECONDS)
    async with services.subscriber.listen(document_id) as listener:
        while True:
            async with services.database.statement() as connection:
                document = await get_document(connection, organization_id=organization_id, document_id=document_id)
            left = deadline - loop.time()
            if document.status in FINAL_DOCUMENT_STATUSES or left <= 0:
                return document
            if not await _news(services, listener, left, _anything):
                return document


class ServerSentEvents(StreamingResponse):
    """Server-sent events, until there will be no more or the client goes away."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str]) -> None:
        """Prepare to stream these, each in the form in which it goes over the wire."""
        # Proxies must pass on each event as it comes.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self._events = events
        super().__init__(self._events, headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Stop listening as soon as the client has gone."""
        async with aclosing(self._events):
            await super().stream_response(send)


def show_event(event: EventView) -> dict[str, Any]:
    """An event as the API shows it."""
    return {
        "sequence": event.sequence,
        "type": event.type,
        "session_id": event.session_id,
        "turn_id": event.turn_id,
        "status": STATUS_REPORTED.get(event.type),
        "revision": event.revision,
        "payload": event.payload,
        "created_at": event.created_at,
    }


async def follow_log(services: Services, about: UUID, read: ReadLog, after: int) -> AsyncGenerator[str]:
    """The events of a session or a turn, until there will be no more.

    Args:
        about: the session or turn.
        read: reads its log.
        after: the last number that the client has.
    """
    async with services.subscriber.listen(about) as listener:
        while True:
            try:
                log = await read(after, PAGE_SIZE)
            except TurnWorkerError:
                return  # the client comes back with the last number it has, and is told then
            if log is None:
                return
            for event in log.events:
                after = event.sequence
                yield f"id: {after}\nevent: {event.type}\ndata: {encode(show_event(event))}\n\n"
            if log.finished:
                return
            if not log.events:
                yield ": nothing new\n\n"
            if len(log.events) < PAGE_SIZE and not await _news(services, listener, MAX_WAIT_SECONDS, _anything):
                return


async def _news(services: Services, listener: Listener, seconds: float, concerns: Callable[[Envelope], bool]) -> bool:
    """Sleep until there may be something to read; False if this process is about to end."""
    pause = _REREAD_SECONDS if services.subscriber.connected else _REREAD_SECONDS_WITHOUT_NEWS
    with suppress(TimeoutError):
        async with asyncio.timeout(min(seconds, pause)):
            async for news in listener:
                if isinstance(news, Gap) or concerns(news):
                    return True
            return False
    return True


def _ends_a_turn(envelope: Envelope) -> bool:
    return STATUS_REPORTED.get(envelope.type) in TERMINAL_STATUSES


def _anything(_envelope: Envelope) -> bool:
    return True
