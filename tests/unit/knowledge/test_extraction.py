"""The text that is read out of documents."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from tests.pdf import pdf, pdf_of_streams
from worker.knowledge.extraction import Limits, UnreadableDocument, clean, extract_text
from worker.knowledge.media_types import HTML, MARKDOWN, PDF, TEXT

LIMITS = Limits(characters=10_000, pages=3)

PAGE = b"""<!DOCTYPE html><html><head><title>T</title><style>p { color: red }</style></head><body>
<nav><a href="/">Home</a></nav><h1>Opening <b>hours</b></h1><p>We open<br>at <i>nine</i>.</p><!-- not this -->
<ul><li>Monday</li><li>Tuesday</li></ul><table><tr><th>Visit</th><th>Price</th></tr><tr><td>First</td><td>80</td></tr>
</table><script>alert("no")</script></body></html>"""


def test_a_page_keeps_its_structure_and_loses_its_machinery() -> None:
    assert extract_text(PAGE, HTML, None, LIMITS) == (
        "Home\n\n# Opening hours\n\nWe open\nat nine.\n\n- Monday\n- Tuesday\n\nVisit | Price |\nFirst | 80 |"
    )


def test_a_page_nested_without_bound_is_read() -> None:
    page = b"<div>" * 5_000 + b"deep" + b"</div>" * 5_000
    assert extract_text(page, HTML, None, LIMITS) == "deep"


@pytest.mark.parametrize(
    "page",
    [
        "<meta charset=windows-1251><p>Приём".encode("windows-1251"),
        "<p>Приём".encode(),
        "<p>Приём".encode("utf-16"),
    ],
)
def test_a_page_says_itself_how_it_is_encoded_unless_that_is_plain(page: bytes) -> None:
    assert extract_text(page, HTML, None, LIMITS) == "Приём"


def test_a_page_in_a_declared_encoding_is_read_by_it() -> None:
    assert extract_text("<p>Приём".encode("koi8-r"), HTML, "koi8-r", LIMITS) == "Приём"


def test_a_pdf_is_read_page_by_page() -> None:
    assert extract_text(pdf(["We open at nine.", "A visit costs 80 (eighty)."]), PDF, None, LIMITS) == (
        "We open at nine.\n\nA visit costs 80 (eighty)."
    )


def test_a_pdf_that_needs_a_password_says_so() -> None:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf(["Secret."]))))
    writer.encrypt("password", algorithm="RC4-128")
    locked = BytesIO(b"")
    writer.write(locked)
    assert _reason(locked.getvalue(), PDF) == "document_encrypted"


@pytest.mark.parametrize(
    ("content", "media_type", "reason"),
    [
        (pdf(["x"] * 4), PDF, "document_too_long"),
        (pdf([""]), PDF, "document_empty"),
        (b"%PDF-1.7 and nothing else", PDF, "document_broken"),
        (pdf(["Cut off."])[:200], PDF, "document_broken"),
        (b"a" * 10_001, TEXT, "document_too_long"),
        (b" \n\t \n", TEXT, "document_empty"),
        (b"<script>only()</script>", HTML, "document_empty"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, media_type: str, reason: str) -> None:
    assert _reason(content, media_type) == reason


def test_a_pdf_that_unpacks_to_far_more_than_it_is_fails_and_does_not_take_all_memory() -> None:
    bomb = pdf_of_streams([b"BT " + b" " * 300_000_000 + b" ET"])
    assert len(bomb) < 400_000
    assert _reason(bomb, PDF) in {"document_broken", "document_empty"}


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        ("Grüße".encode(), None),
        ("Grüße".encode("utf-8-sig"), None),
        ("Grüße".encode("utf-16"), None),
        ("Grüße".encode("utf-32"), None),
        ("Grüße".encode("latin-1"), None),
        ("Grüße".encode("cp437"), "cp437"),
        ("Grüße".encode(), "cp437"),
    ],
)
def test_text_is_decoded_by_its_mark_or_as_utf8_or_as_declared_or_as_windows_text(
    content: bytes, charset: str | None
) -> None:
    assert extract_text(content, TEXT, charset, LIMITS) == "Grüße"


def test_markdown_stays_as_it_is() -> None:
    assert extract_text(b"# Hours\r\n\r\n\r\n\r\n- nine  \r\n", MARKDOWN, None, LIMITS) == "# Hours\n\n- nine"


@given(st.text(st.characters()))
def test_clean_text_can_be_stored_and_cleaning_it_again_changes_nothing(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert clean(cleaned) == cleaned


@given(
    st.binary(max_size=300), st.sampled_from([TEXT, MARKDOWN, HTML, PDF]), st.sampled_from([None, "utf-16", "koi8-r"])
)
def test_whatever_is_uploaded_is_read_or_refused_with_a_reason(
    content: bytes, media_type: str, charset: str | None
) -> None:
    with suppress(UnreadableDocument):
        assert extract_text(content, media_type, charset, LIMITS)


def _reason(content: bytes, media_type: str) -> str:
    with pytest.raises(UnreadableDocument) as refused:
        extract_text(content, media_type, None, LIMITS)
    return refused.value.reason
