"""Turns that may be what kills their workers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Suspects:
    """Lets one suspect at a time run in this process.

    A worker that dies takes all its turns along, and nobody knows which of them was to blame. All are run again at once: nearly
    always it was none of them. But a turn with one chance left shares its process with no other in that position. If that
    worker dies too, the turn that is given up is the one that was there each time, and those beside it still have a
    chance of their own.
    """

    def __init__(self, max_worker_losses: int) -> None:
        """Prepare; `max_worker_losses` is when a turn is given up."""
        self._last_chance = max_worker_losses - 1
        self._running = 0

    @property
    def refused_losses(self) -> tuple[int, ...]:
        """How many workers a turn may not have lost to be claimed now."""
        return (self._last_chance,) if self._running else ()

    @contextmanager
    def watching(self, losses: int) -> Iterator[bool]:
        """Run a turn that has lost so many workers inside the block, unless it yields False: then another suspect runs."""
        if losses != self._last_chance or losses == 0:
            yield True
            return
        self._running += 1
        try:
            yield self._running == 1
        finally:
            self._running -= 1
