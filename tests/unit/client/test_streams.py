"""Server-sent events: read line by line, through any number of connections."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api_stub.client import ApiUnavailable, ApiUnreachable, NotFound
from api_stub.client.streams import EventStream, TextStream

CUT = httpx.ReadError("cut")


def lines(sequence: int, **members: Any) -> list[str]:
    """An event as it comes."""
    event = {
        "sequence": sequence,
        "type": "turn.started",
        "session_id": str(uuid4()),
        "turn_id": None,
        "status": None,
        "revision": None,
        "payload": {},
        "created_at": datetime.now(UTC).isoformat(),
    }
    return [f"id: {sequence}", "event: turn.started", f"data: {json.dumps(event | members)}", ""]


def feed(stream: EventStream, *fed: list[str]) -> list[int]:
    return [event.sequence for line in chain(*fed) if (event := stream.feed(line)) is not None]


def test_events_come_out_once_and_in_order_whatever_is_repeated() -> None:
    stream = EventStream("/events", after=0, retries=1)
    assert feed(stream, lines(1), [": nothing new", ""], lines(2), lines(1), lines(2), lines(3)) == [1, 2, 3]


def test_the_next_connection_asks_for_what_comes_after_the_last_event() -> None:
    stream = EventStream("/events", after=4, retries=1)
    assert stream.connect()["Last-Event-ID"] == "4"
    feed(stream, lines(5))
    assert stream.connect() == {"Accept": "text/event-stream", "Last-Event-ID": "5"}


def test_half_an_event_is_forgotten_with_its_connection() -> None:
    stream = EventStream("/events", after=0, retries=1)
    assert feed(stream, lines(1)[:-1]) == []
    stream.connect()
    assert feed(stream, [""], lines(1)) == [1]


def test_an_event_may_be_spread_over_several_lines() -> None:
    stream = EventStream("/events", after=0, retries=1)
    whole = lines(1)[2].removeprefix("data: ")
    cut = whole.index(", ") + 1
    assert feed(stream, [f"data:{whole[:cut]}", f"data: {whole[cut:]}", ""]) == [1]


def test_the_api_says_when_nothing_more_will_come() -> None:
    stream = EventStream("/events", after=0, retries=1)
    assert stream.is_over(httpx.Response(204)) is True
    assert stream.is_over(httpx.Response(200)) is False
    with pytest.raises(NotFound):
        stream.is_over(httpx.Response(404))


def test_a_stream_that_brought_something_and_ended_is_taken_up_at_once() -> None:
    stream = EventStream("/events", after=0, retries=0)
    stream.connect()
    feed(stream, lines(1))
    assert stream.pause(None) == 0
    stream.connect()
    assert stream.pause(None) > 0


def test_a_stream_that_cannot_be_read_is_given_up_after_so_many_tries_in_a_row() -> None:
    stream = EventStream("/events", after=0, retries=2)
    for tries in (1, 2):
        stream.connect()
        assert stream.pause(CUT) > 0
        assert stream.pause(CUT) > 0
        stream.connect()
        feed(stream, lines(tries))
    stream.pause(CUT)
    stream.pause(CUT)
    with pytest.raises(ApiUnreachable, match=r"/events.*cut"):
        stream.pause(CUT)


def test_an_api_that_stays_unavailable_is_given_up_with_its_last_answer() -> None:
    stream = EventStream("/events", after=0, retries=0)
    with pytest.raises(ApiUnavailable) as answered:
        stream.is_over(httpx.Response(503))
    with pytest.raises(ApiUnavailable) as given_up:
        stream.pause(answered.value)
    assert given_up.value is answered.value


def told(id_: str, offset: int, text: str, type_: str = "text", **members: Any) -> list[str]:
    """A piece of text as it comes."""
    update = {"type": type_, "offset": offset, "text": text}
    return [f"id: {id_}", f"event: {type_}", f"data: {json.dumps(update | members)}", ""]


def read(stream: TextStream, *fed: list[str]) -> list[tuple[str, str, bool]]:
    said = [progress for line in chain(*fed) if (progress := stream.feed(line)) is not None]
    return [(progress.text, progress.new, progress.reset) for progress in said]


def test_text_grows_by_what_is_new() -> None:
    stream = TextStream("/text", retries=1)
    assert read(stream, told("1-0", 0, "Good"), told("2-0", 4, " morning"), told("end", 0, "Good morning.", "end")) == [
        ("Good", "Good", False),
        ("Good morning", " morning", False),
        ("Good morning.", ".", False),
    ]


def test_text_that_was_begun_anew_is_marked_as_such() -> None:
    stream = TextStream("/text", retries=1)
    assert read(stream, told("1-0", 0, "Hello. Half"), told("2-0", 6, "", "reset"), told("3-0", 6, " Whole.")) == [
        ("Hello. Half", "Hello. Half", False),
        ("Hello.", "Hello.", True),
        ("Hello. Whole.", " Whole.", False),
    ]


def test_words_behind_lost_ones_are_left_to_the_end() -> None:
    stream = TextStream("/text", retries=1)
    assert read(stream, told("1-0", 0, "One"), told("3-0", 7, " three"), told("end", 0, "One two three", "end")) == [
        ("One", "One", False),
        ("One two three", " two three", False),
    ]


def test_reading_goes_on_behind_the_last_piece() -> None:
    stream = TextStream("/text", retries=1)
    assert stream.connect() == {"Accept": "text/event-stream"}
    read(stream, told("7-1", 0, "One"))
    assert stream.connect()["Last-Event-ID"] == "7-1"
