"""Text as a model may write it and PostgreSQL may not."""

from __future__ import annotations

import pytest

from worker.turns.completed_turn import storable_text


@pytest.mark.parametrize(
    ("text", "stored"),
    [("plain é 🎉", "plain é 🎉"), ("a\0b", "ab"), ("half \ud83d a pair", "half ? a pair")],
)
def test_what_postgresql_cannot_hold_is_left_out_of_stored_text(text: str, stored: str) -> None:
    assert storable_text(text) == stored
