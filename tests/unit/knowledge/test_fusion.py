"""One ranking of several."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.knowledge.fusion import fuse

RANKINGS = st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4)


def test_what_is_good_in_both_comes_before_what_is_best_in_one() -> None:
    assert fuse([["a", "b", "c"], ["d", "b", "e"]])[0][0] == "b"


def test_the_first_of_every_ranking_has_the_score_one() -> None:
    thing, score = fuse([["a", "b"], ["a", "c"]])[0]
    assert (thing, round(score, 9)) == ("a", 1.0)


@given(RANKINGS)
def test_everything_is_ranked_once_with_a_score_up_to_one_best_first(rankings: list[list[int]]) -> None:
    fused = fuse(rankings)
    assert sorted(thing for thing, _ in fused) == sorted({thing for ranking in rankings for thing in ranking})
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1.000001 for score in scores)


@given(st.lists(st.integers(), unique=True))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [thing for thing, _ in fuse([ranking])] == ranking
