"""Everything there is to know about a run: what clients were promised, and what the database, the world and the LLM say."""

from __future__ import annotations

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
        faults: How many faults of each kind there were.
    """

    accepted: list[Accepted] = field(default_factory=list)
    followed: dict[UUID, list[int]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    postgres_restarts: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def note_fault(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] = self.faults.get(kind, 0) + 1


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
