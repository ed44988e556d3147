"""What the server was asked, for tests to look at and to wait for."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from worker.embedded.scripted_llm.errors import ScriptedLLMFailed

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class RecordedRequest:
    """One request as it arrived, and what became of it."""

    path: str
    headers: dict[str, str]
    """The HTTP headers, names in lower case, without the credential."""
    api_key: str = field(repr=False)
    body: dict[str, Any] = field(default_factory=dict)
    """The parsed JSON; empty when it was not a JSON object."""
    number: int = 0
    """Its place in the order of arrival, from 1."""
    model: str = ""
    system: str = ""
    user_text: str = ""
    """The last thing the user said."""
    tools: frozenset[str] = frozenset()
    """The names of the tools offered."""
    rule: str | None = None
    """The name of the rule that answers it, e.g. `rules.0`."""
    refused: str | None = None
    """Why it was refused, when it breaks a rule of the API."""
    client_gone: bool = False
    """The caller closed the connection before the whole answer was sent."""

    def as_json(self) -> dict[str, Any]:
        """Return everything but the credential, ready for JSON."""
        return asdict(self) | {"api_key": None, "tools": sorted(self.tools)}


class Recorder:
    """Keeps the latest requests and wakes whoever waits for one. Safe to use from several threads."""

    def __init__(self, keep: int) -> None:
        self._requests: deque[RecordedRequest] = deque(maxlen=keep)
        self._waiters: list[tuple[Callable[[RecordedRequest], bool], int, Future[RecordedRequest]]] = []
        self._lock = Lock()
        self._arrived = 0

    def add(self, request: RecordedRequest) -> None:
        """Record a request and give it its number."""
        with self._lock:
            self._arrived += 1
            request.number = self._arrived
            self._requests.append(request)
            self._wake()

    def mark_client_gone(self, request: RecordedRequest) -> None:
        """Note that the caller of a recorded request did not wait for its whole answer."""
        with self._lock:
            request.client_gone = True
            self._wake()

    def all(self) -> list[RecordedRequest]:
        """Return the recorded requests in order of arrival."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the recorded requests and start numbering anew."""
        with self._lock:
            self._requests.clear()
            self._arrived = 0

    async def wait_for(
        self, matching: Callable[[RecordedRequest], bool], count: int, timeout_seconds: float
    ) -> RecordedRequest:
        """Return the `count`-th recorded request that matches, as soon as there is one."""
        found: Future[RecordedRequest] = Future()
        waiter = (matching, count, found)
        with self._lock:
            self._waiters.append(waiter)
            self._wake()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(found), timeout_seconds)
        except TimeoutError:
            raise ScriptedLLMFailed(
                f"Waited {timeout_seconds:g} s for matching request number {count}; {len(self.all())} requests are recorded."
            ) from None
        finally:
            with self._lock:
                self._waiters = [other for other in self._waiters if other is not waiter]

    def _wake(self) -> None:
        for matching, count, found in self._waiters:
            if found.done():
                continue
            matches = [request for request in self._requests if matching(request)]
            if len(matches) >= count:
                found.set_result(matches[count - 1])
