"""The state diagram of `worker.turns.lifecycle`, driven against the real thing by Hypothesis."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.world import World
from worker.storage.attempts import LeaseLost
from worker.storage.claim import Attempt
from worker.storage.database import Database
from worker.storage.session_lock import SessionEnded
from worker.turns.lifecycle import TERMINAL, TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

NEVER_EXPIRES, EXPIRES_AT_ONCE = 3600.0, 0.0
RETRY_LATER = 3600.0


@dataclass
class ModelTurn:
    """What the model believes of one turn."""

    turn_id: UUID
    status: str = "pending"
    attempt: int = 0
    parent: UUID | None = None
    available: bool = True
    expired: bool = False
    seen: list[str] = field(default_factory=lambda: ["pending"])

    def become(self, status: str) -> None:
        assert status in TRANSITIONS[self.status], f"{self.status} -> {status} is not in the diagram"
        self.status = status


class Life(RuleBasedStateMachine):
    """One session of one organization, and what the model believes of it."""

    database_url: ClassVar[str]
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = Database(self.database_url, pool_size=2)
        self.world = self.run(World.make(self.database, f"organization {uuid4()}"))
        self.session_id = self.run(self.world.session()).session_id
        self.line: list[ModelTurn] = []
        self.head: UUID | None = None
        self.revision = 0
        self.events = 0
        self.ended = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        self.run(self.database.close())
        self.loop.close()

    def model(self, attempt: Attempt) -> ModelTurn:
        return next(turn for turn in self.line if turn.turn_id == attempt.turn_id)

    def head_of_line(self) -> ModelTurn | None:
        return next((turn for turn in self.line if turn.status not in TERMINAL), None)

    def holds(self, attempt: Attempt) -> bool:
        turn = self.model(attempt)
        return turn.status == "running" and turn.attempt == attempt.attempt

    @rule()
    def enqueue(self) -> None:
        try:
            turn = self.run(self.world.enqueue(self.session_id))
        except SessionEnded:
            assert self.ended
            return
        assert not self.ended
        assert turn.claimable == (self.head_of_line() is None)
        self.line.append(ModelTurn(turn.turn_id))
        self.revision += 1
        self.events += 1

    @precondition(lambda self: self.line)
    @rule(target=attempts, data=st.data(), expires=st.booleans())
    def claim(self, data: st.DataObject, expires: bool) -> Attempt:  # noqa: FBT001 -- drawn by Hypothesis
        turn = data.draw(st.sampled_from(self.line))
        claimable = not self.ended and (
            (turn is self.head_of_line() and turn.status == "pending" and turn.available)
            or (turn.status == "running" and turn.expired)
        )
        self.world.lease_seconds = EXPIRES_AT_ONCE if expires else NEVER_EXPIRES
        if turn.expired:
            self.world.lease_seconds = EXPIRES_AT_ONCE
        claimed = self.run(self.world.try_claim(turn.turn_id))
        assert (claimed is not None) == claimable
        if claimed is None:
            return Attempt(self.world.organization_id, self.session_id, turn.turn_id, turn.attempt)
        turn.become("running")
        turn.attempt += 1
        turn.parent = self.head
        turn.expired = self.world.lease_seconds == EXPIRES_AT_ONCE
        self.events += 1
        assert claimed.attempt.attempt == turn.attempt
        assert claimed.parent_turn_id == self.head
        return claimed.attempt  # type: ignore[no-any-return] # `run` erases the type

    def write(self, attempt: Attempt, writing: Coroutine[Any, Any, Any], status: str) -> bool:
        held = self.holds(attempt)
        try:
            self.run(writing)
        except LeaseLost:
            assert not held, "a write of the attempt that holds the turn was refused"
            return False
        assert held, "a write of an attempt that does not hold the turn was accepted"
        turn = self.model(attempt)
        turn.become(status)
        turn.expired = False
        self.events += 1
        return True

    @rule(attempt=attempts)
    def complete(self, attempt: Attempt) -> None:
        if self.write(attempt, self.world.complete(attempt), "completed"):
            self.head = attempt.turn_id
            self.revision += 1

    @rule(attempt=attempts)
    def fail(self, attempt: Attempt) -> None:
        if self.write(attempt, self.world.fail(attempt), "failed"):
            self.revision += 1

    @rule(attempt=attempts, later=st.booleans())
    def retry(self, attempt: Attempt, later: bool) -> None:  # noqa: FBT001 -- drawn by Hypothesis
        if self.write(attempt, self.world.retry(attempt, RETRY_LATER if later else 0.0), "pending"):
            self.model(attempt).available = not later

    @rule(attempt=attempts)
    def give_back(self, attempt: Attempt) -> None:
        if self.write(attempt, self.world.give_back(attempt), "pending"):
            self.model(attempt).available = True

    @rule(attempt=attempts)
    def complete_and_end_the_session(self, attempt: Attempt) -> None:
        if self.write(attempt, self.world.complete(attempt, end_reason="done"), "completed"):
            self.head = attempt.turn_id
            self.revision += 1
            self.end_line()

    @precondition(lambda self: len(self.line) > 3)
    @rule()
    def end_the_session(self) -> None:
        self.run(self.world.end(self.session_id))
        if not self.ended:
            self.end_line()

    def end_line(self) -> None:
        for turn in self.line:
            if turn.status not in TERMINAL:
                turn.become("cancelled")
                self.revision += 1
                self.events += 1
        self.ended = True
        self.revision += 1
        self.events += 1

    @invariant()
    def the_database_agrees(self) -> None:
        rows = self.run(
            self.world.rows(
                "SELECT id, status, attempt, parent_turn_id FROM turns WHERE session_id = :id ORDER BY position",
                id=self.session_id,
            )
        )
        assert [tuple(row) for row in rows] == [
            (turn.turn_id, turn.status, turn.attempt, turn.parent) for turn in self.line
        ]
        session = self.run(self.world.row("sessions", self.session_id))
        assert (session.head_turn_id, session.revision, session.last_sequence, session.state) == (
            self.head,
            self.revision,
            self.events,
            "completed" if self.ended else "running",
        )


def test_every_sequence_of_operations_keeps_to_the_state_diagram_and_the_fence(database_url: str) -> None:
    run_state_machine_as_test(
        type("LifeInDatabase", (Life,), {"database_url": database_url}),
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
