"""Text as a model may write it and PostgreSQL may not."""

from __future__ import annotations

import pytest

from worker.turns.completed_turn import _storable_text


@pytest.mark.parametrize(
    ("text", "stored"),
    [(None, None), ("plain é 🎉", "plain é 🎉"), ("a\0b", "ab"), ("half \ud83d a pair", "half ? a pair")],
)
def test_what_postgresql_cannot_hold_is_left_out_of_stored_text(text: str | None, stored: str | None) -> None:
    assert _storable_text(text) == stored
