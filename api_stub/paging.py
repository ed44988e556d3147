"""Cursors: where a list goes on, in a form that promises nothing about what is in it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import Query

from api_stub.problems import invalid_request

if TYPE_CHECKING:
    from api_stub.problems import Problem

MAX_LIMIT: Final = 100

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description=f"At most so many items, 1 to {MAX_LIMIT}.")]
Cursor = Annotated[str | None, Query(max_length=200, description="The `next_cursor` of the page before.")]


def cursor_of_time(created_at: datetime, id_: UUID) -> str:
    """A cursor behind an item of a list ordered by time and id."""
    return _write([created_at.isoformat(), str(id_)])


def read_time(cursor: str | None) -> tuple[datetime, UUID] | None:
    """What `cursor_of_time` was given; None for the beginning of the list.

    Raises:
        Problem: when it did not come from there.
    """
    match _read(cursor):
        case None:
            return None
        case [str(created_at), str(id_)]:
            try:
                return datetime.fromisoformat(created_at), UUID(id_)
            except ValueError:
                raise _refused() from None
        case _:
            raise _refused()


def cursor_of_place(position: int | None, id_: UUID) -> str:
    """A cursor behind an item of a line, or behind one that has no place in it."""
    return _write([position, str(id_)])


def read_place(cursor: str | None) -> tuple[int | None, UUID] | None:
    """What `cursor_of_place` was given; None for the beginning of the list.

    Raises:
        Problem: when it did not come from there.
    """
    match _read(cursor):
        case None:
            return None
        case [None | int() as position, str(id_)] if position is None or 0 <= position < 2**31:
            try:
                return position, UUID(id_)
            except ValueError:
                raise _refused() from None
        case _:
            raise _refused()


def cursor_of_name(name: str) -> str:
    """A cursor behind an item of a list ordered by name, which is printable ASCII."""
    return _write([name])


def read_name(cursor: str | None) -> str:
    """What `cursor_of_name` was given; empty for the beginning of the list.

    Raises:
        Problem: when it did not come from there.
    """
    match _read(cursor):
        case None:
            return ""
        case [str(name)] if name.isascii() and name.isprintable():
            return name
        case _:
            raise _refused()


def cursor_of_text(key: str) -> str:
    """A cursor behind an item of a list ordered by a text."""
    return _write([key])


def read_text(cursor: str | None) -> str | None:
    """What `cursor_of_text` was given; None for the beginning of the list.

    Raises:
        Problem: when it did not come from there.
    """
    match _read(cursor):
        case None:
            return None
        case [str(key)] if "\x00" not in key and key.encode(errors="ignore").decode() == key:
            return key
        case _:
            raise _refused()


def _write(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _read(cursor: str | None) -> object:
    if cursor is None:
        return None
    try:
        return json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))) or 0
    except ValueError:
        raise _refused() from None


def _refused() -> Problem:
    return invalid_request(
        [
            {
                "in": "query",
                "pointer": "/cursor",
                "message": "This is not a cursor of this list.",
                "accepted": "The `next_cursor` of the page before, unchanged.",
            }
        ]
    )
