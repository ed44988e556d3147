"""Keeps the leases of a process's running turns, from a thread of its own and over a connection of its own."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

import structlog

from worker.errors import TurnWorkerError
from worker.storage.leases import LeaseConnection
from worker.telemetry import names

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from worker.storage.claim import Attempt
    from worker.storage.leases import HeldAttempt

log = structlog.get_logger(__name__)


class Loss(Enum):
    """Why this process no longer holds a turn that it runs."""

    TAKEN = "taken"
    CANCELLED = "cancelled"


class LeaseKeeper:
    """Renews the leases of all turns this process runs, with one statement for all of them, and notices those it lost.

    It looks for losses more often than it renews: news of a cancelled turn comes over the channel, but when it does not, the
    turn is to be stopped within about a second all the same.

    It has its own thread so that a busy event loop does not cost a lease, and it watches that loop: one that makes no
    progress for `stall_seconds` is as good as dead, so its leases are left to expire and its turns run elsewhere.
    """

    def __init__(
        self,
        database_url: str,
        loop: asyncio.AbstractEventLoop,
        *,
        lease_seconds: float,
        renewal_seconds: float,
        look_seconds: float,
        stall_seconds: float,
    ) -> None:
        self._connection = LeaseConnection(database_url)
        self._loop = loop
        self._lease_seconds = lease_seconds
        self._renewal_seconds = renewal_seconds
        self._look_seconds = min(look_seconds, renewal_seconds)
        self._stall_seconds = stall_seconds
        # By attempt: one that was taken over by this very process is to hear of it as well.
        self._held: dict[HeldAttempt, Callable[[Loss], None]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._last_progress = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connection. Waits for a renewal under way."""
        self._stopping.set()
        self._thread.join()
        self._connection.close()

    @contextmanager
    def hold(self, attempt: Attempt, on_lost: Callable[[Loss], None]) -> Iterator[None]:
        """Renew the lease of this attempt while the block runs; `on_lost` is called on the loop if it turns out lost."""
        key = (attempt.turn_id, attempt.attempt)
        with self._lock:
            self._held[key] = on_lost
        try:
            yield
        finally:
            with self._lock:
                del self._held[key]

    def _keep(self) -> None:
        renewed_at = time.monotonic()
        while not self._stopping.wait(self._look_seconds):
            self._loop.call_soon_threadsafe(self._progress)
            stalled_for = time.monotonic() - self._last_progress
            if stalled_for > self._stall_seconds:
                log.error(names.LEASE_LOOP_STALLED, seconds=round(stalled_for, 1))
                continue
            # A tick early rather than a tick late.
            is_due = time.monotonic() - renewed_at > self._renewal_seconds - self._look_seconds / 2
            try:
                self._look(renew=is_due)
            except TurnWorkerError as error:
                log.warning(names.LEASE_RENEWAL_FAILED, error=str(error))
            except Exception:  # without this thread every turn of the process is lost, and every later one
                log.exception(names.LEASE_RENEWAL_FAILED)
            if is_due:
                renewed_at = time.monotonic()

    def _look(self, *, renew: bool) -> None:
        with self._lock:
            held = dict(self._held)
        asked = set(held)
        if renew and asked:
            asked -= self._connection.renew(asked, self._lease_seconds)
        if not asked:
            return
        for key, cancelled in self._connection.taken(asked).items():
            with self._lock:
                lost = key in self._held
            if lost:
                if not cancelled:
                    log.warning(names.LEASE_LOST, turn_id=str(key[0]), attempt=key[1])
                self._loop.call_soon_threadsafe(held[key], Loss.CANCELLED if cancelled else Loss.TAKEN)

    def _progress(self) -> None:
        self._last_progress = time.monotonic()
