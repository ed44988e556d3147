"""Following a log over server-sent events: what is asked, what comes, when to come back. No I/O."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from api_stub.client.calls import problem_of
from api_stub.client.errors import ApiUnavailable, ApiUnreachable
from api_stub.client.flows import backoff
from api_stub.schemas import Event

if TYPE_CHECKING:
    import httpx

SILENCE_SECONDS: Final = 30.0
"""A stream on which nothing comes for so long is taken for dead; the API sends a sign of life more often."""


class Stream:
    """The state of one subscription over server-sent events, through any number of connections."""

    def __init__(self, path: str, after: int, retries: int) -> None:
        """Start behind the number `after`; give up after `retries` connections in a row that failed."""
        self.path = path
        self._last = after
        self._retries = retries
        self._failures = 0
        self._brought_something = False
        self._data: list[str] = []

    def connect(self) -> dict[str, str]:
        """Begin a connection: the headers to ask with."""
        self._data.clear()
        self._brought_something = False
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self._last)}

    def is_over(self, response: httpx.Response) -> bool:
        """Whether the API says that nothing more will come; if not, its answer is a stream.

        Raises:
            ApiError: when it says something else.
        """
        if response.status_code == HTTPStatus.OK:
            return False
        if response.status_code == HTTPStatus.NO_CONTENT:
            return True
        raise problem_of(response)

    def feed(self, line: str) -> Event | None:
        """Take the next line; the event, if it completes one that was not seen before."""
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            event = Event.model_validate_json("\n".join(self._data))
            self._data.clear()
            self._brought_something = True
            self._failures = 0
            if event.sequence > self._last:
                self._last = event.sequence
                return event
        return None

    def pause(self, error: httpx.TransportError | ApiUnavailable | None) -> float:
        """How long to wait before connecting again, in seconds, after a connection that ended by itself or by an error.

        Raises:
            ApiUnreachable: when it was tried often enough and there was no answer.
            ApiUnavailable: when it was tried often enough and that was the last answer.
        """
        if error is None and self._brought_something:
            return 0.0
        self._failures += 1
        if error is not None and self._failures > self._retries:
            if isinstance(error, ApiUnavailable):
                raise error
            raise ApiUnreachable(f"The stream {self.path} cannot be read: {error!r}.") from error
        return backoff(self._failures)
