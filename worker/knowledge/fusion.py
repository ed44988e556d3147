"""One ranking of several that cannot be compared: by the places that a thing has in each."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    _Thing = TypeVar("_Thing", bound=Hashable)

# As its inventors chose it: the first places count for more, and none of them for everything.
_SMOOTHING: Final = 60


def fuse(rankings: Sequence[Sequence[_Thing]]) -> list[tuple[_Thing, float]]:
    """Reciprocal rank fusion.

    Args:
        rankings: each best first, each thing once.

    Returns:
        Every thing with its score, best first. 1 is the first place in every ranking.
    """
    scores: dict[_Thing, float] = defaultdict(float)
    for ranking in rankings:
        for place, thing in enumerate(ranking, 1):
            scores[thing] += 1 / (_SMOOTHING + place)
    best = len(rankings) / (_SMOOTHING + 1)
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return [(thing, score / best) for thing, score in ranked]
