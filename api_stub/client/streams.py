"""Following a log, or a turn's text, over server-sent events: what is asked, what comes, when to come back. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from api_stub.client.call import problem_of
from api_stub.client.errors import ApiUnavailable, ApiUnreachable
from api_stub.client.flows import backoff
from api_stub.schemas import Event, TextUpdate

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

SILENCE_SECONDS: Final = 30.0
"""A stream on which nothing comes for so long is taken for dead; the API sends a sign of life more often."""


class Stream(ABC, Generic[T]):
    """The state of one subscription over server-sent events, through any number of connections."""

    def __init__(self, path: str, after: str, retries: int) -> None:
        """Start behind the event with the id `after`; give up after `retries` connections in a row that failed."""
        self.path = path
        self._last_id = after
        self._retries = retries
        self._failures = 0
        self._brought_something = False
        self._id = ""
        self._data: list[str] = []

    def connect(self) -> dict[str, str]:
        """Begin a connection: the headers to ask with."""
        self._data.clear()
        self._brought_something = False
        headers = {"Accept": "text/event-stream"}
        return {**headers, "Last-Event-ID": self._last_id} if self._last_id else headers

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

    def feed(self, line: str) -> T | None:
        """Take the next line; what it completes, if that was not seen before."""
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif line.startswith("id:"):
            self._id = line.removeprefix("id:").strip()
        elif not line and self._data:
            data = "\n".join(self._data)
            self._data.clear()
            self._brought_something = True
            self._failures = 0
            return self._take(self._id, data)
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

    @abstractmethod
    def _take(self, id_: str, data: str) -> T | None:
        """Read an event, move `_last_id`, and say what is new."""


class EventStream(Stream[Event]):
    """A subscription to a log, from a number on."""

    def __init__(self, path: str, after: int, retries: int) -> None:
        """Start behind the number `after`; give up after `retries` connections in a row that failed."""
        super().__init__(path, str(after), retries)
        self._last = after

    def _take(self, id_: str, data: str) -> Event | None:  # noqa: ARG002 -- an event has its number in itself
        event = Event.model_validate_json(data)
        if event.sequence <= self._last:
            return None
        self._last = event.sequence
        self._last_id = str(event.sequence)
        return event


@dataclass(frozen=True, slots=True)
class TextProgress:
    """What the assistant has said so far in a turn.

    Attributes:
        text: All of it.
        new: The end of it that was not there before.
        reset: Some of what was there before is void, because the answer was begun anew: show `text` in its place.
        update: What the API told; the last one has the turn's `status` and `error`.
    """

    text: str
    new: str
    reset: bool
    update: TextUpdate


class TextStream(Stream[TextProgress]):
    """A turn's text, from the beginning to the turn's end."""

    def __init__(self, path: str, retries: int) -> None:
        """Start at the beginning; give up after `retries` connections in a row that failed."""
        super().__init__(path, "", retries)
        self._text = ""

    def _take(self, id_: str, data: str) -> TextProgress | None:
        self._last_id = id_
        update = TextUpdate.model_validate_json(data)
        if update.offset > len(self._text):
            return None  # words before it were lost on the way; the end has them
        before, self._text = self._text, self._text[: update.offset] + update.text
        reset = not self._text.startswith(before)
        return TextProgress(self._text, self._text if reset else self._text[len(before) :], reset, update)
