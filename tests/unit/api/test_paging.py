"""Cursors come back as they were given, and nothing else passes for one."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_stub.paging import cursor_of_name, cursor_of_place, cursor_of_time, read_name, read_place, read_time
from api_stub.problems import Problem


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])), st.uuids())
def test_a_cursor_of_a_time_comes_back_whole(created_at: datetime, id_: UUID) -> None:
    assert read_time(cursor_of_time(created_at, id_)) == (created_at, id_)


@given(st.none() | st.integers(min_value=0, max_value=2**31 - 1), st.uuids())
def test_a_cursor_of_a_place_comes_back_whole(position: int | None, id_: UUID) -> None:
    assert read_place(cursor_of_place(position, id_)) == (position, id_)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_cursor_of_a_name_comes_back_whole(name: str) -> None:
    assert read_name(cursor_of_name(name)) == name


def test_no_cursor_is_the_beginning() -> None:
    assert read_name(None) == ""
    assert read_time(None) is None
    assert read_place(None) is None


@given(st.text(max_size=200))
def test_whatever_else_is_given_is_refused_or_read_but_never_a_defect(cursor: str) -> None:
    for read in (read_time, read_place, read_name):
        with suppress(Problem):
            read(cursor)


@pytest.mark.parametrize("value", [-1, 2**31])
def test_a_place_that_no_line_has_is_refused(value: int) -> None:
    with pytest.raises(Problem):
        read_place(cursor_of_place(value, UUID(int=1)))


def test_a_cursor_of_one_list_is_none_of_another() -> None:
    with pytest.raises(Problem):
        read_time(cursor_of_place(5, UUID(int=1)))
    with pytest.raises(Problem):
        read_place(cursor_of_time(datetime.now(UTC), UUID(int=1)))
    with pytest.raises(Problem):
        read_name(cursor_of_place(5, UUID(int=1)))
