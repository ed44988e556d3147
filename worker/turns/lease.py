"""Keeps the leases of a process's running turns, from a thread of its own and over a connection of its own."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from worker.errors import TurnWorkerError
from worker.storage.leases import LeaseConnection
from worker.telemetry import names

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from worker.storage.claim import Attempt

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews the leases of all turns this process runs, with one statement for all of them.

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
        stall_seconds: float,
    ) -> None:
        self._connection = LeaseConnection(database_url)
        self._loop = loop
        self._lease_seconds = lease_seconds
        self._renewal_seconds = renewal_seconds
        self._stall_seconds = stall_seconds
        self._held: dict[UUID, tuple[int, Callable[[], None]]] = {}
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
    def hold(self, attempt: Attempt, on_lost: Callable[[], None]) -> Iterator[None]:
        """Renew the lease of this attempt while the block runs; `on_lost` is called on the loop if it turns out lost."""
        with self._lock:
            self._held[attempt.turn_id] = (attempt.attempt, on_lost)
        try:
            yield
        finally:
            with self._lock:
                # A later attempt of this process at the same turn may have taken the place.
                if self._held.get(attempt.turn_id, (None, None))[0] == attempt.attempt:
                    del self._held[attempt.turn_id]

    def _keep(self) -> None:
        while not self._stopping.wait(self._renewal_seconds):
            self._loop.call_soon_threadsafe(self._progress)
            stalled_for = time.monotonic() - self._last_progress
            if stalled_for > self._stall_seconds:
                log.error(names.LEASE_LOOP_STALLED, seconds=round(stalled_for, 1))
                continue
            try:
                self._renew()
            except TurnWorkerError as error:
                log.warning(names.LEASE_RENEWAL_FAILED, error=str(error))

    def _renew(self) -> None:
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        still_held = self._connection.renew(
            {turn_id: attempt for turn_id, (attempt, _) in held.items()}, self._lease_seconds
        )
        for turn_id, (attempt, on_lost) in held.items():
            if turn_id not in still_held:
                with self._lock:
                    lost = self._held.get(turn_id, (None, None))[0] == attempt
                if lost:
                    log.warning(names.LEASE_LOST, turn_id=str(turn_id), attempt=attempt)
                    self._loop.call_soon_threadsafe(on_lost)

    def _progress(self) -> None:
        self._last_progress = time.monotonic()
