"""Everything there is to know about a run: what clients were promised, and what the database, the world and the LLM say."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID


@dataclass
class Accepted:
    """A message that was answered with 202.

    Attributes:
        turn_id: The turn it became.
        repeated_as: The turns that repetitions of the same request were answered with.
        cancelled: A client was told that it is cancelled.
    """

    session_id: UUID
    message: str
    turn_id: UUID
    repeated_as: set[UUID] = field(default_factory=set)
    cancelled: bool = False


@dataclass(frozen=True)
class Fault:
    """Something that was done to the system.

    Attributes:
        at: When it began, in seconds since the epoch.
    """

    at: float
    kind: str


@dataclass
class Loss:
    """A worker that was killed or stood still while it ran turns.

    Attributes:
        at: When, in seconds since the epoch.
        turn_ids: What it ran.
    """

    at: float
    turn_ids: set[UUID]


@dataclass
class History:
    """What was seen from outside while the run went on.

    Attributes:
        accepted: Every message that was accepted.
        followed: By session, the numbers of the events that a subscriber was given who lost its connection again and again.
        losses: When workers were lost, and what they ran.
        postgres_restarts: When PostgreSQL was restarted: leases are judged later then.
        faults: What the adversary did.
        demands: What clients did that is seldom asked for, how often.
    """

    accepted: list[Accepted] = field(default_factory=list)
    followed: dict[UUID, list[int]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    postgres_restarts: list[float] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    demands: Counter[str] = field(default_factory=Counter)

    def note_fault(self, kind: str) -> None:
        """Write down a fault that begins now."""
        self.faults.append(Fault(time.time(), kind))

    def counted_faults(self) -> Counter[str]:
        """How many faults of each kind there were, what clients did among them."""
        return Counter(fault.kind for fault in self.faults) + self.demands


@dataclass(frozen=True)
class Record:
    """What the database holds after the run.

    Attributes:
        sessions: The sessions' rows by id.
        turns: The turns' rows by session, in the order of its line.
        messages: The messages that each turn added, in order.
        events: The events of each session, in order.
    """

    sessions: dict[UUID, Any]
    turns: dict[UUID, list[Any]]
    messages: dict[UUID, list[dict[str, Any]]]
    events: dict[UUID, list[Any]]
