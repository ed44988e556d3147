"""What kind a document is: declared, named, and shown by its content."""

from __future__ import annotations

import pytest

from tests.pdf import pdf
from worker.knowledge.media_types import HTML, MARKDOWN, PDF, TEXT, UnsupportedDocument, document_type


@pytest.mark.parametrize(
    ("declared", "filename", "content", "media_type"),
    [
        ("text/markdown", "a", b"# A", MARKDOWN),
        ("text/x-markdown; charset=utf-8", "", b"# A", MARKDOWN),
        ("text/plain", "a.md", b"# A", MARKDOWN),
        ("text/plain", "a.txt", b"<html>as text", TEXT),
        ("text/html", "a", b"just words", HTML),
        ("application/octet-stream", "A.HTM", b"<p>", HTML),
        ("", "", b"  <!DOCTYPE html><p>", HTML),
        ("", "", b"words", TEXT),
        ("", "", "words".encode("utf-16"), TEXT),
        ("", "", pdf(["A"]), PDF),
        ("application/pdf", "", b"junk before it\n" + pdf(["A"]), PDF),
    ],
)
def test_the_kind_is_as_declared_or_as_named_or_as_the_content_shows(
    declared: str, filename: str, content: bytes, media_type: str
) -> None:
    assert document_type(content, declared=declared, filename=filename).media_type == media_type


@pytest.mark.parametrize(
    ("declared", "filename", "content", "message"),
    [
        ("application/pdf", "a.pdf", b"words", "declared as PDF, but its content is plain text"),
        ("text/plain", "a.txt", pdf(["A"]), "declared as plain text, but its content is PDF"),
        ("", "a.md", pdf(["A"]), "declared as Markdown, but its content is PDF"),
        ("text/plain", "", b"PK\x03\x04\0\0", "binary"),
        ("image/png", "", b"\x89PNG", "'image/png' cannot be read"),
        ("application/msword", "a.doc", b"words", "cannot be read. Upload plain text, Markdown, HTML, PDF."),
    ],
)
def test_what_is_not_what_it_says_or_cannot_be_read_is_refused(
    declared: str, filename: str, content: bytes, message: str
) -> None:
    with pytest.raises(UnsupportedDocument, match=message):
        document_type(content, declared=declared, filename=filename)


@pytest.mark.parametrize(
    ("declared", "charset"), [("text/plain; charset=KOI8-R", "koi8-r"), ("text/plain; charset=no", None)]
)
def test_an_encoding_counts_if_it_is_known(declared: str, charset: str | None) -> None:
    assert document_type(b"words", declared=declared, filename="").charset == charset
