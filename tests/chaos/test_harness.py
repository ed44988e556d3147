"""Under attack no promise is broken; and if one were, it would be noticed."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.harness.checker import read_record
from tests.chaos.harness.effects import Order
from tests.chaos.harness.run import Evidence, raise_file_limit, run

if TYPE_CHECKING:
    from tests.system import Caller

ATTACK_SECONDS = 75.0

BREAKS = {
    # A worker that starts a turn's tools anew, under keys of its own.
    "effect": None,
    # A turn that stored nothing of what was said in it.
    "checkpoint": "DELETE FROM messages WHERE turn_id = :turn_id",
    # A turn that went on from another than the one before it.
    "order": "UPDATE turns SET parent_turn_id = NULL WHERE id = :turn_id",
    # A log with a gap, of which a subscriber can never be told.
    "log": "DELETE FROM outbox WHERE turn_id = :turn_id AND type = 'turn.started'",
    # A turn that was committed twice.
    "terminal": """
        INSERT INTO outbox (organization_id, session_id, sequence, turn_id, type, payload, published_at)
        SELECT organization_id, session_id, 1000000, turn_id, type, payload, now() FROM outbox
        WHERE turn_id = :turn_id AND type = 'turn.completed'""",
}


@pytest.mark.timeout(600)
async def test_under_attack_no_promise_is_broken_and_the_checker_would_notice_each_that_were() -> None:
    found: dict[str, list[str]] = {}

    async def break_promises(evidence: Evidence, caller: Caller) -> None:
        before = set(evidence.violations())
        turn = a_turn_that_ordered(evidence)
        for kind, statement in BREAKS.items():
            if statement is None:
                evidence.effects.orders["another key"] = Order(turn.user_messages[0]["text"], "another key")
            else:
                await caller.world.execute(statement, turn_id=turn.id)
            async with caller.world.database.statement() as connection:
                evidence.record = await read_record(connection, caller.world.organization_id)
            violations = set(evidence.violations()) - before
            found[kind] = [violation for violation in violations if violation.startswith(kind)]
            before |= violations

    raise_file_limit()
    report = await run(
        seconds=ATTACK_SECONDS, seed=SystemRandom().randrange(10**6), sessions=12, afterwards=break_promises
    )

    print(report)  # noqa: T201 -- for the report of the run
    assert report.violations == [], str(report)
    assert report.turns > 50
    assert sum(report.faults.values()) > 20
    assert [kind for kind, violations in found.items() if not violations] == []


def a_turn_that_ordered(evidence: Evidence) -> Any:
    """A completed turn with one order and others before it in its session."""
    return next(
        turn
        for turns in evidence.record.turns.values()
        for turn in turns
        if turn.status == "completed" and turn.parent_turn_id and turn.user_messages[0]["text"].startswith("order ")
    )
