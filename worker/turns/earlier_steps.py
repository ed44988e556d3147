"""What a turn goes on from: the journal of its own earlier attempts, and of the turn in whose place it stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from worker.engine.journal import Replied, read_step
from worker.engine.replay import carry_over
from worker.storage.journal import read_journals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.engine.journal import Step
    from worker.storage.claim import ClaimedTurn
    from worker.storage.database import Database


@dataclass(frozen=True, slots=True)
class EarlierSteps:
    """The steps before an attempt.

    Attributes:
        steps: All of them, oldest first.
        own: How many of them, the last ones, are in the turn's own journal.
    """

    steps: Sequence[Step] = ()
    own: int = 0

    @property
    def carried_replies(self) -> int:
        """How many replies of the model another turn asked for: they do not count against this one's limit."""
        carried = self.steps[: len(self.steps) - self.own]
        return max((step.number for step in carried if isinstance(step, Replied)), default=0)


NONE: Final = EarlierSteps()


async def earlier_steps(database: Database, claimed: ClaimedTurn) -> EarlierSteps:
    """Read them, if there can be any: a first attempt in nobody's place has none, and reads nothing.

    Raises:
        DatabaseUnavailable: when they could not be read.
    """
    attempt = claimed.attempt
    if attempt.attempt == 1 and claimed.carries_over_turn_id is None:
        return NONE
    async with database.statement() as connection:
        journals = await read_journals(connection, organization_id=attempt.organization_id, turn_id=attempt.turn_id)
    steps: list[Step] = []
    own: list[Step] = []
    for journal in journals:
        own = [read_step(step) for step in journal.steps]
        carried = steps if journal.is_retry else carry_over(steps, datetime.now(UTC))
        steps = [*carried, *own]
    return EarlierSteps(steps, len(own))
