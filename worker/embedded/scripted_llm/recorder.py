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
        self._waiters: list[Future[None]] = []
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
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    changed, requests = self._watch()
                    matches = [request for request in requests if matching(request)]
                    if len(matches) >= count:
                        return matches[count - 1]
                    await asyncio.wrap_future(changed)
        except TimeoutError:
            raise ScriptedLLMFailed(
                f"Waited {timeout_seconds:g} s for matching request number {count}; {len(self.all())} requests are recorded."
            ) from None

    def _watch(self) -> tuple[Future[None], list[RecordedRequest]]:
        """Return the requests so far and what becomes done as soon as there is news of any."""
        changed: Future[None] = Future()
        with self._lock:
            self._waiters.append(changed)
            return changed, list(self._requests)

    def _wake(self) -> None:
        for changed in self._waiters:
            if changed.set_running_or_notify_cancel():
                changed.set_result(None)
        self._waiters.clear()
