"""Starts again what ended by itself, with growing pauses."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOK_SECONDS: Final = 0.1
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
# Who ran for this long has overcome what made it end before.
_STEADY_SECONDS: Final = 30.0


class Supervised(Protocol):
    """What can be kept running."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        ...

    def restart(self) -> None:
        """Start it again."""
        ...


@dataclass(slots=True)
class _Watch:
    service: Supervised
    started_at: float
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    """Watches services from a thread of its own."""

    def __init__(self, services: Sequence[Supervised], report: Callable[[str], None]) -> None:
        """Describe the watch; nothing is watched yet.

        Args:
            services: they run already.
            report: told, from the watching thread, what happened and what is done about it.
        """
        self._watches = [_Watch(service, time.monotonic()) for service in services]
        self._report = report
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer. Whatever is being started again then is started when this returns."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            for watch in self._watches:
                self._look_after(watch)

    def _look_after(self, watch: _Watch) -> None:
        now = time.monotonic()
        if watch.restart_at is not None:
            if now >= watch.restart_at:
                self._restart(watch)
        elif not watch.service.is_running:
            if now - watch.started_at > _STEADY_SECONDS:
                watch.failures = 0
            pause = self._schedule(watch)
            self._report(f"{watch.service.name} ended unexpectedly. It is started again in {pause:g} s.")

    def _restart(self, watch: _Watch) -> None:
        watch.restart_at = None
        watch.started_at = time.monotonic()
        try:
            watch.service.restart()
        except TurnWorkerError as error:
            pause = self._schedule(watch)
            self._report(f"{watch.service.name} could not be started again; the next try is in {pause:g} s: {error}")

    def _schedule(self, watch: _Watch) -> float:
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(watch.failures, 10))
        watch.failures += 1
        watch.restart_at = time.monotonic() + pause
        return pause
