"""Following a log over Redis: news in any order and number is made into the log, each event once. No I/O.

News is small, fast and unreliable; the log, read through the API, is none of these. A `Follower` says when the log has
to be read: at the start, after anything that may have been missed, and at the end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from api_stub.client.calls import list_events
from api_stub.schemas import TERMINAL_STATUSES, Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from api_stub.client.call import Call
    from api_stub.schemas import EventPage

PAGE_SIZE: Final = 100
REREAD_SECONDS: Final = 10.0
"""When nothing was heard for so long, the log is read again."""

CONNECT_SECONDS: Final = 5.0
"""How long connecting to Redis may take."""

_MAYBE_LAST: Final = frozenset({"session.ended", "session.finalized"})
"""Whether there is something to do after a session's end, of which more events tell, only the log says."""


class Follower:
    """Where one subscription stands in its session's log.

    A turn is followed through its session's log and channels too: only the session's numbers have no gaps.

    Attributes:
        pattern: The channels to subscribe to: those of everything that happens in the session.
        session_id: The session in whose log it stands.
        last: The number of the last event it has.
        must_read: The log has to be read before anything else is heard.
        is_over: Nothing more will come.
    """

    def __init__(self, organization_id: UUID, session_id: UUID, *, after: int, turn_id: UUID | None = None) -> None:
        """Start behind the number `after`; with a turn, only what is about it is passed on."""
        self.pattern = f"turns.{organization_id}.{session_id}.*"
        self.session_id = session_id
        self.last = after
        self.must_read = True
        self.is_over = False
        self._turn_id = turn_id
        self._ends = False

    def next_page(self) -> Call[EventPage]:
        """The request for what the log holds behind `last`."""
        return list_events(session_id=self.session_id, after=self.last, limit=PAGE_SIZE)

    def hear(self, message: bytes) -> Event | None:
        """Take a message of the channel; the event, if it is the next and concerns this subscription."""
        event = _read(message)
        if event is not None and event.sequence <= self.last:
            return None
        if event is None or event.sequence != self.last + 1:
            self.must_read = True
            return None
        return self._take(event)

    def read(self, page: EventPage) -> Iterator[Event]:
        """Take what the log holds behind `last`, at most `PAGE_SIZE` events; pass on what concerns this subscription."""
        for event in page.data:
            if event.sequence > self.last and (taken := self._take(event)) is not None:
                yield taken
        self.must_read = len(page.data) == PAGE_SIZE
        self.is_over = not self.must_read and (page.finished or self._ends)

    def _take(self, event: Event) -> Event | None:
        self.last = event.sequence
        if self._turn_id is None:
            self.must_read |= event.type in _MAYBE_LAST
            return event
        if event.turn_id != self._turn_id:
            return None
        if event.status in TERMINAL_STATUSES:
            # What was recorded with it, such as the end of the session, may still be on its way.
            self._ends = True
            self.must_read = True
        return event


def _read(message: bytes) -> Event | None:
    try:
        envelope: dict[str, Any] = json.loads(message)
        data = envelope["data"]
        return Event(
            sequence=data["sequence"],
            type=envelope["type"],
            session_id=data["session_id"],
            turn_id=data["turn_id"],
            status=data["status"],
            revision=data["revision"],
            created_at=envelope["time"],
        )
    except (ValueError, KeyError, TypeError):
        return None
