"""What takes more than one request, written once for both clients: as generators that say what to do next and do nothing.

A client drives a flow: it sends each `Call` and gives back the response (or throws in the transport's error), and sleeps
for each `Pause`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from api_stub.client import calls, resource_calls
from api_stub.client.call import Call, retry_after_seconds
from api_stub.client.errors import ApiUnreachable, DocumentUnfinished, TurnUnfinished
from api_stub.client.news import Follower

if TYPE_CHECKING:
    from uuid import UUID

    from api_stub.schemas import Document, Turn

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 60.0
_WORTH_REPEATING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


Flow = Generator[Call[Any] | Pause, httpx.Response | None, T]


def backoff(failures: int) -> float:
    """Seconds to wait after that many failures in a row: growing, with jitter."""
    ceiling = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 16))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 -- spreads load, protects nothing


def exchange(call: Call[T], retries: int) -> Flow[T]:
    """Send a request, and send it again when there was no answer or one that invites to, as soon as that allows.

    Raises:
        ApiUnreachable: when there never was an answer.
        ApiError: when the answer is a problem.
    """
    failures = 0
    while True:
        try:
            response = yield call
        except httpx.TransportError as error:
            if failures == retries:
                raise ApiUnreachable(f"{call.method} {call.path} got no answer: {error!r}.") from error
            after = 0.0
        else:
            if response is None:
                raise AssertionError("a call is answered with a response")
            if failures and call.method == "DELETE" and response.status_code == HTTPStatus.NOT_FOUND:
                # An earlier try did it, and its answer was lost.
                return call.read(httpx.Response(HTTPStatus.NO_CONTENT))
            if failures == retries or response.status_code not in _WORTH_REPEATING:
                return call.read(response)
            after = retry_after_seconds(response) or 0.0
            if after > _LONGEST_WAIT_SECONDS:
                return call.read(response)  # not a matter of a moment: its caller decides
        failures += 1
        yield Pause(max(after, backoff(failures)))


def wait(turn_id: UUID | str, timeout_seconds: float, retries: int) -> Flow[Turn]:
    """Ask for a turn until it is over.

    Raises:
        TurnUnfinished: when it is not over after `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        turn = yield from exchange(calls.get_turn(turn_id, wait_seconds=left), retries)
        if turn.is_terminal:
            return turn
        if time.monotonic() >= deadline:
            raise TurnUnfinished(turn)


def wait_for_document(document_id: UUID | str, timeout_seconds: float, retries: int) -> Flow[Document]:
    """Ask for a document until it is ready or failed.

    Raises:
        DocumentUnfinished: when it is neither after `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        document = yield from exchange(resource_calls.get_document(document_id, wait_seconds=left), retries)
        if document.is_final:
            return document
        if time.monotonic() >= deadline:
            raise DocumentUnfinished(document)


def follow(session_id: UUID | str | None, turn_id: UUID | str | None, after: int, retries: int) -> Flow[Follower]:
    """Find out where in which log a subscription over Redis begins."""
    page = yield from exchange(calls.list_events(session_id=session_id, turn_id=turn_id, after=after, limit=1), retries)
    if turn_id is None:
        session = yield from exchange(calls.get_session(str(session_id)), retries)
        return Follower(session.organization_id, session.id, after=after)
    turn = yield from exchange(calls.get_turn(turn_id), retries)
    # What the session's log holds before the turn's first event does not concern it.
    start = page.data[0].sequence - 1 if page.data else after
    follower = Follower(turn.organization_id, turn.session_id, after=start, turn_id=turn.id)
    follower.is_over = page.finished and not page.data
    return follower
