"""Text as it is generated: whatever comes in which pieces, put together it is the turn's text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.live_text import SEPARATOR, LiveText


class Reader:
    """Puts together what it reads, as every reader does: from the offset on it is this."""

    def __init__(self) -> None:
        self.text = ""
        self.pieces: list[tuple[int, str]] = []

    def begin(self, offset: int) -> None:
        self.text = self.text[:offset]

    def write(self, offset: int, text: str) -> None:
        assert offset <= len(self.text)
        self.pieces.append((offset, text))
        self.text = self.text[:offset] + text


@given(st.lists(st.lists(st.text("ab \n", max_size=4), max_size=6), max_size=4))
def test_what_is_passed_on_is_in_the_end_what_was_said(replies: list[list[str]]) -> None:
    reader = Reader()
    segments: list[str] = []
    live = LiveText(reader)
    for words in replies:
        live.restart()
        for word in words:
            live.add(word)
            assert SEPARATOR.join([*segments, "".join(words).strip()]).startswith(reader.text)
        if segment := "".join(words).strip():
            segments.append(segment)
            live.complete(segment)
    assert reader.text == SEPARATOR.join(segments)
    assert len("".join(text for _, text in reader.pieces)) == len(reader.text)


def test_words_are_passed_on_as_they_come() -> None:
    reader = Reader()
    live = LiveText(reader)
    for word in (" Good", " morning", ".\n"):
        live.add(word)
    assert reader.pieces == [(0, "Good"), (4, " morning"), (12, ".")]


def test_a_segment_said_without_the_model_is_passed_on_whole() -> None:
    reader = Reader()
    live = LiveText(reader)
    live.complete("One moment.")
    live.add("Here")
    assert reader.text == "One moment.\n\nHere"


def test_of_a_reply_that_was_broken_off_nothing_stays_when_the_next_one_begins() -> None:
    reader = Reader()
    live = LiveText(reader)
    live.complete("Hello.")
    live.add("Half a")
    live.restart()
    assert reader.text == "Hello."
    live.add("Whole.")
    assert reader.text == "Hello.\n\nWhole."


def test_what_an_earlier_attempt_said_is_not_passed_on_again() -> None:
    reader = Reader()
    reader.text = "Hello.\n\nOne moment.\n\nHalf a"
    live = LiveText(reader)
    live.skip(["Hello.", "One moment."])
    live.begin()
    live.add("Whole.")
    assert reader.text == "Hello.\n\nOne moment.\n\nWhole."
    assert reader.pieces == [(19, "\n\nWhole.")]


def test_a_reply_that_begins_with_the_marker_of_a_recording_is_passed_on_as_what_is_shown_of_it() -> None:
    for marker in ("●", "▸"):
        reader = Reader()
        live = LiveText(reader)
        for word in (" ", marker, " hello-1", " and more"):
            live.add(word)
        assert reader.text == ""
        live.complete("Hello there.")
        assert reader.text == "Hello there."


def test_a_segment_that_turned_out_as_something_else_takes_the_place_of_what_was_passed_on() -> None:
    reader = Reader()
    live = LiveText(reader)
    live.add("What was")
    live.complete("What is")
    assert reader.text == "What is"
