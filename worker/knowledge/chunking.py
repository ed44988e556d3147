"""Cutting a text where its sense allows it: at headings, paragraphs, sentences, words, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from worker.knowledge.extraction import UnreadableDocument
from worker.knowledge.media_types import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

# Large enough to hold an answer with what it depends on, small enough that three of them cost a turn little.
SMALLEST_CHARS: Final = 500
LARGEST_CHARS: Final = 1_200

# The splitter's time grows faster than the text where that has no structure: two million letters take it a minute.
_SECTION_CHARS: Final = 20_000
_EDGES: Final = ("\n# ", "\n## ", "\n### ", "\n\n", "\n", " ")


def split(text: str, media_type: str, *, limit: int) -> list[str]:
    """Cut a text into chunks of at most `LARGEST_CHARS` characters. Nothing but white space is lost.

    Raises:
        UnreadableDocument: when there are more than `limit`.
    """
    size = (SMALLEST_CHARS, LARGEST_CHARS)
    splitter = TextSplitter(size) if media_type == TEXT else MarkdownSplitter(size)
    chunks = [chunk for section in _sections(text) for chunk in splitter.chunks(section) if chunk.strip()]
    if len(chunks) > limit:
        raise UnreadableDocument(
            "document_too_long", f"The document falls into {len(chunks):,} pieces; at most {limit:,} are kept."
        )
    return chunks


def _sections(text: str) -> Iterator[str]:
    """The text in pieces that are quickly cut further, each from one strong edge to the last one that fits."""
    start = 0
    while len(text) - start > _SECTION_CHARS:
        end = start + _SECTION_CHARS
        earliest = start + _SECTION_CHARS // 2
        edges = (text.rfind(edge, earliest, end) for edge in _EDGES)
        end = next((edge for edge in edges if edge > 0), end)
        yield text[start:end]
        start = end
    yield text[start:]
