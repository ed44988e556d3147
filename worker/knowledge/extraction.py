"""The text of a document, as Markdown where it has structure. Pure, slow, and given what strangers made: see `reader`."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.errors import TurnWorkerError
from worker.knowledge.media_types import HTML, PDF, WIDE_MARKS

if TYPE_CHECKING:
    from collections.abc import Iterable

# Everything that is no text: controls but tab and line feed, and what Unicode has set aside for nobody.
_NO_TEXT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_LINE_ENDS: Final = re.compile("\r\n?|\f|\v|\x85|\u2028|\u2029")
_BLANK_LINES: Final = re.compile("\n{3,}")
_TRAILING_SPACE: Final = re.compile("[ \t]+\n")


class UnreadableDocument(TurnWorkerError):
    """No text can be had from the document; trying again will not help.

    Attributes:
        reason: The code of why: this class stands for all of them, which travel between processes.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read of one document, and at what cost.

    Attributes:
        pages: Most pages of a PDF.
        characters: Most characters of its text.
        chunks: Most chunks.
        memory_bytes: Most memory that reading it may take.
        cpu_seconds: Most time of a processor that reading it may take.
    """

    characters: int
    pages: int = 2_000
    chunks: int = 20_000
    memory_bytes: int = 1024**3
    cpu_seconds: int = 120


def extract_text(content: bytes, media_type: str, charset: str | None, limits: Limits) -> str:
    """Read a document's text.

    Raises:
        UnreadableDocument: when there is none, or too much.
    """
    if media_type == PDF:
        from worker.knowledge.pdf import pdf_pages  # noqa: PLC0415 -- each kind loads only its own library

        parts: Iterable[str] = pdf_pages(content, limits.pages)
    elif media_type == HTML:
        from worker.knowledge.html import html_text  # noqa: PLC0415 -- likewise

        parts = [html_text(content, charset)]
    else:
        parts = [decode(content, charset)]
    return _joined(parts, limits.characters)


def decode(content: bytes, charset: str | None) -> str:
    """Text of bytes: by its mark, else as UTF-8, else as declared, else as Windows-1252, where nearly all bytes are letters."""
    for mark, encoding in WIDE_MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    for encoding in filter(None, ("utf-8-sig", charset)):
        with suppress(UnicodeError):
            return content.decode(encoding)
    return content.decode("cp1252", "replace")


def clean(text: str) -> str:
    """Text that PostgreSQL can hold and a model can read: one form for line ends and characters, no controls, no gaps."""
    text = text.encode("utf-8", "replace").decode()  # halves of surrogate pairs
    text = _NO_TEXT.sub("", _LINE_ENDS.sub("\n", text))
    text = unicodedata.normalize("NFC", text)
    return _BLANK_LINES.sub("\n\n", _TRAILING_SPACE.sub("\n", text)).strip()


def _joined(parts: Iterable[str], limit: int) -> str:
    cleaned = []
    length = 0
    for part in parts:
        text = clean(part)
        length += len(text)
        if length > limit:
            raise UnreadableDocument(
                "document_too_long",
                f"The document has more than {limit:,} characters of text (TURN_WORKER_MAX_DOCUMENT_CHARS). Upload it in parts.",
            )
        cleaned.append(text)
    text = "\n\n".join(filter(None, cleaned))
    if not text:
        raise UnreadableDocument(
            "document_empty",
            "There is no text in the document. If it is made of scanned pages, have their text recognised first.",
        )
    return text
