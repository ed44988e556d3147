"""What kind of document was uploaded: as it is declared, and as its content shows."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from email.message import Message
from typing import Final

from worker.errors import TurnWorkerError

TEXT: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
PDF: Final = "application/pdf"

_NAMES: Final = {TEXT: "plain text", MARKDOWN: "Markdown", HTML: "HTML", PDF: "PDF"}
_ALIASES: Final = {"text/x-markdown": MARKDOWN, "application/xhtml+xml": HTML, "application/x-pdf": PDF}
_UNDECLARED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_OF_EXTENSION: Final = {
    "txt": TEXT,
    "text": TEXT,
    "log": TEXT,
    "md": MARKDOWN,
    "markdown": MARKDOWN,
    "htm": HTML,
    "html": HTML,
    "xhtml": HTML,
    "pdf": PDF,
}
_PDF_WITHIN_BYTES: Final = 1024
_HTML_BEGINNINGS: Final = (b"<!doctype html", b"<html", b"<head", b"<body")
WIDE_MARKS: Final = {
    # The longer marks first: that of UTF-32 begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks of the encodings whose text may hold NUL bytes."""


class UnsupportedDocument(TurnWorkerError):
    """The document is of no kind that can be read, or of another kind than it is declared to be."""

    code = "unsupported_document"


@dataclass(frozen=True, slots=True)
class DocumentType:
    """What kind a document is.

    Attributes:
        media_type: One of this module's constants.
        charset: The encoding of its text, where one was declared that is known here.
    """

    media_type: str
    charset: str | None


def document_type(content: bytes, *, declared: str, filename: str) -> DocumentType:
    """Find out what kind of document this is.

    Args:
        declared: its Content-Type; empty for none.
        filename: decides by its extension where the Content-Type does not.

    Raises:
        UnsupportedDocument: when it is none of plain text, Markdown, HTML and PDF, or not what it is declared to be.
    """
    header = Message()
    header["content-type"] = declared or "application/octet-stream"
    media_type = _declared_type(header.get_content_type() if declared else "", filename)
    if b"%PDF-" in content[:_PDF_WITHIN_BYTES]:
        found = PDF
    elif b"\0" in content and not content.startswith(tuple(WIDE_MARKS)):
        raise UnsupportedDocument(f"The content is binary, and no PDF. {_accepted()}")
    elif content.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower().startswith(_HTML_BEGINNINGS):
        found = HTML
    else:
        found = TEXT
    if media_type is None:
        media_type = found
    # HTML may begin in many ways, and Markdown is any text; the other way round, what is HTML may be meant as text.
    if (media_type == PDF) != (found == PDF):
        raise UnsupportedDocument(
            f"The document is declared as {_NAMES[media_type]}, but its content is {_NAMES[found]}."
        )
    return DocumentType(media_type, _known_charset(header.get_content_charset()))


def _declared_type(declared: str, filename: str) -> str | None:
    declared = _ALIASES.get(declared, declared)
    if declared in _UNDECLARED:
        return _OF_EXTENSION.get(filename.rpartition(".")[2].lower())
    if declared not in _NAMES:
        raise UnsupportedDocument(f"A document of the type {declared!r} cannot be read. {_accepted()}")
    if declared == TEXT and _OF_EXTENSION.get(filename.rpartition(".")[2].lower()) == MARKDOWN:
        return MARKDOWN  # many clients do not know Markdown
    return declared


def _known_charset(charset: str | None) -> str | None:
    try:
        return codecs.lookup(charset).name if charset else None
    except LookupError:
        return None


def _accepted() -> str:
    return f"Upload {', '.join(_NAMES.values())}."
