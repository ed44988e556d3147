"""Which turns share a process when workers die."""

from __future__ import annotations

from worker.turns.suspects import Suspects


def test_turns_that_lost_no_worker_or_can_still_lose_two_run_together() -> None:
    suspects = Suspects(3)
    with suspects.watching(0) as first, suspects.watching(1) as second, suspects.watching(1) as third:
        assert (first, second, third) == (True, True, True)
        assert not suspects.refused_losses


def test_while_a_turn_has_its_last_chance_no_other_in_that_position_is_claimed() -> None:
    suspects = Suspects(3)
    with suspects.watching(2) as may_run:
        assert may_run
        assert list(suspects.refused_losses) == [2]
    assert not suspects.refused_losses


def test_of_two_that_were_claimed_at_the_same_moment_one_is_left_to_others() -> None:
    suspects = Suspects(3)
    with suspects.watching(2) as first, suspects.watching(2) as second:
        assert (first, second) == (True, False)


def test_where_the_first_loss_is_the_last_nobody_is_held_back() -> None:
    suspects = Suspects(1)
    with suspects.watching(0) as first, suspects.watching(0) as second:
        assert (first, second) == (True, True)
        assert not suspects.refused_losses
