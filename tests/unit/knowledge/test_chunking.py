"""How a text is cut."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.knowledge.chunking import LARGEST_CHARS, split
from worker.knowledge.extraction import UnreadableDocument
from worker.knowledge.media_types import MARKDOWN, PDF, TEXT

SENTENCE = "The practice opens at nine in the morning on every working day. "


def letters(text: str) -> str:
    return re.sub(r"\s+", "", text)


@given(
    st.lists(
        st.sampled_from([SENTENCE, "# Heading\n\n", "\n\n", "- item\n", "x" * 1500, "語" * 400, "| a | b |\n", "> "])
    ).map("".join),
    st.sampled_from([TEXT, MARKDOWN, PDF]),
)
def test_no_chunk_is_too_long_or_blank_and_nothing_is_lost(text: str, media_type: str) -> None:
    chunks = split(text, media_type, limit=10_000)
    assert all(0 < len(chunk) <= LARGEST_CHARS and chunk.strip() for chunk in chunks)
    assert letters("".join(chunks)) == letters(text)


def test_a_section_is_kept_together_with_its_heading() -> None:
    text = "\n\n".join(f"# Topic {number}\n\n{SENTENCE * 9}" for number in range(5))
    chunks = split(text, MARKDOWN, limit=100)
    assert [chunk.splitlines()[0] for chunk in chunks] == [f"# Topic {number}" for number in range(5)]


def test_too_many_chunks_are_refused() -> None:
    with pytest.raises(UnreadableDocument, match="at most 2 are kept"):
        split(SENTENCE * 100, TEXT, limit=2)


@pytest.mark.parametrize("text", ["x" * 400_000, "word " * 80_000, "> " * 200_000, "[" * 200_000, "# a\n" * 100_000])
@pytest.mark.parametrize("media_type", [TEXT, MARKDOWN])
def test_a_text_without_structure_is_cut_in_time(text: str, media_type: str) -> None:
    began = time.process_time()
    split(text, media_type, limit=1_000_000)
    assert time.process_time() - began < 10
