"""When a request is made again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.web.retries import pause_seconds, retry_after_seconds

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@given(st.integers(1, 50))
def test_pauses_grow_and_stay_bounded(failures: int) -> None:
    pause = pause_seconds(failures, None, longest=10)
    assert pause is not None
    assert 0.125 <= pause <= 4


def test_what_the_server_asks_for_is_the_least_and_too_much_is_a_no() -> None:
    assert pause_seconds(1, 5.0, longest=10) == 5.0
    assert pause_seconds(1, 11.0, longest=10) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Sat, 28 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-3", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_moment(value: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": value}, NOW) == seconds
