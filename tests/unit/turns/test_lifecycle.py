"""The pure part of a turn's life: its states and its retries."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.storage.schema.conversations import TURN_STATUSES
from worker.turns.lifecycle import TERMINAL, TRANSITIONS, RetryPolicy

POLICY = RetryPolicy(max_provider_failures=5, base_seconds=1.0, max_seconds=60.0)


def pause(failures: int = 1, retry_after: float | None = None, left: float = 600.0, seed: int = 0) -> float | None:
    return POLICY.pause(
        failures=failures, retry_after_seconds=retry_after, seconds_to_deadline=left, random=Random(seed)
    )


def test_the_diagram_knows_exactly_the_statuses_of_the_database() -> None:
    assert set(TRANSITIONS) == set(TURN_STATUSES)


def test_completed_failed_and_cancelled_are_final() -> None:
    assert {"completed", "failed", "cancelled"} == TERMINAL


@given(st.integers(1, 4), st.integers())
def test_a_pause_doubles_with_each_failure_and_is_drawn_from_its_upper_half(failures: int, seed: int) -> None:
    drawn = pause(failures, seed=seed)
    assert drawn is not None
    assert 2 ** (failures - 1) / 2 <= drawn <= 2 ** (failures - 1)


def test_a_pause_never_exceeds_its_maximum() -> None:
    policy = RetryPolicy(max_provider_failures=100, base_seconds=1.0, max_seconds=60.0)
    drawn = policy.pause(failures=90, retry_after_seconds=None, seconds_to_deadline=600, random=Random(1))
    assert drawn is not None
    assert 30 <= drawn <= 60


def test_turns_that_failed_together_do_not_come_back_together() -> None:
    assert len({pause(3, seed=seed) for seed in range(20)}) == 20


def test_a_retry_after_is_honoured_as_a_lower_bound() -> None:
    assert pause(1, retry_after=30.0) == 30.0
    drawn = pause(4, retry_after=0.1)
    assert drawn is not None
    assert drawn >= 4


def test_the_last_allowed_failure_gives_up() -> None:
    assert pause(4) is not None
    assert pause(5) is None


@pytest.mark.parametrize(("retry_after", "left"), [(601.0, 600.0), (None, 0.3), (None, -1.0)])
def test_a_pause_that_would_end_past_the_deadline_gives_up_now(retry_after: float | None, left: float) -> None:
    assert pause(1, retry_after=retry_after, left=left) is None
