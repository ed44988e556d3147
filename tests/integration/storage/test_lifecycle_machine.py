"""The state diagram of `worker.turns.lifecycle`, driven against the real thing by Hypothesis."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.world import World
from worker.storage.attempts import LeaseLost
from worker.storage.claim import Attempt
from worker.storage.database import Database
from worker.storage.retry import HeadMoved, TurnNotRetryable
from worker.storage.session_lock import SessionBusy, SessionEnded
from worker.turns.lifecycle import TERMINAL, TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

NEVER_EXPIRES, EXPIRES_AT_ONCE = 3600.0, 0.0
RETRY_LATER = 3600.0


@dataclass
class ModelTurn:
    """What the model believes of one turn. A scheduled one has no position."""

    turn_id: UUID
    messages: list[str]
    position: int | None = None
    status: str = "pending"
    attempt: int = 0
    parent: UUID | None = None
    carries: UUID | None = None
    retry_of: UUID | None = None
    interrupted: bool = False
    available: bool = True
    expired: bool = False

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
        self.session_id = self.run(self.world.session(merge_window_seconds=RETRY_LATER)).session_id
        self.turns: list[ModelTurn] = []
        self.positions = 0
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
        return next(turn for turn in self.turns if turn.turn_id == attempt.turn_id)

    def line(self) -> list[ModelTurn]:
        waiting = [turn for turn in self.turns if turn.status in {"pending", "running"}]
        return sorted(waiting, key=lambda turn: turn.position or 0)

    def head_of_line(self) -> ModelTurn | None:
        return next(iter(self.line()), None)

    def happened(self, events: int = 1, *, raised: bool = True) -> None:
        self.events += events
        self.revision += events if raised else 0

    def take_place(self, turn: ModelTurn) -> None:
        self.positions += 1
        turn.position = self.positions

    def joins_line(self, turn: ModelTurn) -> None:
        self.take_place(turn)
        self.turns.append(turn)
        self.happened()

    def try_to(self, do: Coroutine[Any, Any, Any], *refusals: type[Exception]) -> Any:
        """What came of it; None if it was refused, which an ended session always does."""
        try:
            done = self.run(do)
        except SessionEnded:
            assert self.ended
            return None
        except refusals:
            return None
        assert not self.ended
        return done

    def holds(self, attempt: Attempt) -> bool:
        turn = self.model(attempt)
        return turn.status == "running" and turn.attempt == attempt.attempt

    @rule()
    def enqueue(self) -> None:
        turn = self.try_to(self.world.enqueue(self.session_id, "plain"))
        if turn is not None:
            assert turn.claimable == (self.head_of_line() is None)
            self.joins_line(ModelTurn(turn.turn_id, ["plain"]))

    @rule()
    def reject(self) -> None:
        line = self.line()
        turn = self.try_to(self.world.say(self.session_id, "alone", on_busy="reject"), SessionBusy)
        assert self.ended or (turn is None) == bool(line)
        if turn is not None:
            self.joins_line(ModelTurn(turn.turn_id, ["alone"]))

    @rule(on_busy=st.sampled_from(["interrupt", "replace"]))
    def supersede(self, on_busy: Any) -> None:
        line = self.line()
        turn = self.try_to(self.world.say(self.session_id, on_busy, on_busy=on_busy))
        if turn is None:
            return
        new = ModelTurn(turn.turn_id, [on_busy])
        for other in line:
            other.become("cancelled")
            other.interrupted = on_busy == "interrupt"
            self.happened()
        if line and on_busy == "interrupt":
            new.messages = [message for other in line for message in other.messages] + new.messages
            new.carries = line[0].turn_id if line[0].attempt else line[0].carries
        elif line:
            taken_over = self.run(self.world.row("turns", turn.turn_id)).user_messages[:-1]
            assert all("turn_id" in message for message in taken_over)
            new.messages = [message["text"] for message in taken_over] + new.messages
        self.joins_line(new)

    @rule()
    def merge(self) -> None:
        line = self.line()
        turn = self.try_to(self.world.say(self.session_id, "joined", on_busy="merge"))
        if turn is None:
            return
        last = line[-1] if line else None
        if last is not None and last.status == "pending" and last.attempt == 0 and last.retry_of is None:
            assert turn.turn_id == last.turn_id
            last.messages.append("joined")
            self.happened()
        else:
            # The window of this world's sessions lasts longer than the test.
            self.joins_line(ModelTurn(turn.turn_id, ["joined"], available=False))

    @rule()
    def schedule(self) -> None:
        turn = self.try_to(self.world.schedule(self.session_id, RETRY_LATER, "later"))
        if turn is not None:
            self.turns.append(ModelTurn(turn.turn_id, ["later"], status="scheduled"))
            self.happened()

    @precondition(lambda self: any(turn.status == "scheduled" for turn in self.turns))
    @rule(data=st.data())
    def come_due(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([turn for turn in self.turns if turn.status == "scheduled"]))
        self.run(self.world.come_due(turn.turn_id))
        turn.become("pending")
        self.take_place(turn)
        self.happened()

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        events = self.run(self.world.cancel(turn.turn_id))
        assert bool(events) == (turn.status not in TERMINAL)
        if events:
            turn.become("cancelled")
            self.happened()

    @precondition(lambda self: any(turn.status in TERMINAL for turn in self.turns))
    @rule(data=st.data())
    def retry_ended(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from([turn for turn in self.turns if turn.status in TERMINAL]))
        refused = (
            old.status == "completed"
            or old.interrupted
            or any(turn.retry_of == old.turn_id and turn.status not in {"failed", "cancelled"} for turn in self.turns)
            or (old.attempt > 0 and old.parent != self.head)
        )
        turn = self.try_to(self.world.retry_ended(old.turn_id), TurnNotRetryable, HeadMoved)
        assert self.ended or (turn is None) == refused
        if turn is not None:
            carries = old.turn_id if old.attempt else old.carries
            self.joins_line(ModelTurn(turn.turn_id, list(old.messages), carries=carries, retry_of=old.turn_id))

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        completed = [turn.turn_id for turn in self.turns if turn.status == "completed"]
        target = data.draw(st.sampled_from([None, *completed]))
        rewound = self.try_to(self.world.rewind(self.session_id, target), SessionBusy)
        assert self.ended or (rewound is None) == bool(self.line())
        if rewound is not None and target != self.head:
            self.head = target
            self.happened()

    @precondition(lambda self: any(turn.position for turn in self.turns))
    @rule(target=attempts, data=st.data(), expires=st.booleans())
    def claim(self, data: st.DataObject, expires: bool) -> Attempt:  # noqa: FBT001 -- drawn by Hypothesis
        # Mostly the one whose turn it is, or little would ever run.
        positioned = [turn for turn in self.turns if turn.position]
        turn = data.draw(
            st.sampled_from([*self.line()[:1], *positioned]) | st.sampled_from(self.line()[:1] or positioned)
        )
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
        assert [message["text"] for message in claimed.user_messages] == turn.messages
        assert claimed.carries_over_turn_id == turn.carries
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

    @precondition(lambda self: len(self.turns) > 8)
    @rule()
    def end_the_session(self) -> None:
        self.run(self.world.end(self.session_id))
        if not self.ended:
            # That the end reached a turn while it ran is told of beside its cancellation.
            self.events += sum(turn.status == "running" for turn in self.turns)
            self.end_line()

    def end_line(self) -> None:
        for turn in self.turns:
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
                "SELECT id, position, status, attempt, parent_turn_id FROM turns WHERE session_id = :id",
                id=self.session_id,
            )
        )
        assert {tuple(row) for row in rows} == {
            (turn.turn_id, turn.position, turn.status, turn.attempt, turn.parent) for turn in self.turns
        }
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
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
