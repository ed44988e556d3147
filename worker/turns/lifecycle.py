"""The states of a turn, and what a failed attempt leads to.

           its time comes         claim                      commit
    scheduled ------> pending ------------------> running ------------> completed
        |               |  ^                      |  |  |
        |               |  +----------------------+  |  +-------------> failed
        |               |    transient failure       |    permanent failure, or a budget is used up
        |               |    (after a pause),        |
        |               |    worker stopping         |
        +---------------+----------------------------+----------------> cancelled
          cancelled by request or by a later message, or the session ends

    A scheduled turn stands in no line: it holds nothing up and counts as nothing that is pending.

    running -> running: a claim after the lease expired; the attempt number rises and fences off the attempt before.

`completed`, `failed` and `cancelled` are final. Everything here is pure; `worker.storage.attempts` holds the guarded writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

SCHEDULED: Final = "scheduled"
PENDING: Final = "pending"
RUNNING: Final = "running"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    SCHEDULED: frozenset({PENDING, CANCELLED}),
    PENDING: frozenset({RUNNING, CANCELLED}),
    RUNNING: frozenset({PENDING, RUNNING, COMPLETED, FAILED, CANCELLED}),
    COMPLETED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}
"""From each status, those that can follow it."""

TERMINAL: Final = frozenset(status for status, following in TRANSITIONS.items() if not following)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and with which pauses, a transient failure of the provider is tried again. Durations are seconds."""

    max_provider_failures: int
    base_seconds: float
    max_seconds: float

    def pause(
        self, *, failures: int, retry_after_seconds: float | None, seconds_to_deadline: float, random: Random
    ) -> float | None:
        """How long to wait after the failure that made it `failures` in all, or None to give up.

        The pause doubles with each failure and is drawn from its upper half, so that turns which failed together do not
        come back together. A provider's `retry-after` is a lower bound; one beyond the deadline means giving up now.
        """
        if failures >= self.max_provider_failures:
            return None
        ceiling = min(self.max_seconds, self.base_seconds * 2 ** (failures - 1))
        pause = max(random.uniform(ceiling / 2, ceiling), retry_after_seconds or 0.0)
        return pause if pause < seconds_to_deadline else None
