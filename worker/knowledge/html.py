"""The text of a web page as Markdown: its headings, lists and tables stay recognisable, its machinery is left out."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Final

from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, Tag, XMLParsedAsHTMLWarning
from bs4.element import NavigableString, PreformattedString

from worker.knowledge.extraction import decode
from worker.knowledge.media_types import WIDE_MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFT_OUT: Final = ("script", "style", "noscript", "template", "svg", "head", "iframe", "object", "canvas", "select")
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_BLOCKS: Final = frozenset(
    {
        "p",
        "div",
        "section",
        "article",
        "main",
        "aside",
        "header",
        "footer",
        "nav",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "table",
    }
    | {"blockquote", "pre", "figure", "figcaption", "form", "fieldset", "address", "hr", "body", *_HEADINGS}
)
_LINES: Final = {"br": "", "li": "- ", "tr": ""}
_CELLS: Final = frozenset({"td", "th"})
_SPACE: Final = re.compile(r"\s+")


def html_text(content: bytes, charset: str | None) -> str:
    """The text of a page."""
    with warnings.catch_warnings():
        for warning in (MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning):
            warnings.simplefilter("ignore", warning)
        if content.startswith(tuple(WIDE_MARKS)) or _is_utf8(content):
            soup = BeautifulSoup(decode(content, charset), "html.parser")
        else:
            soup = BeautifulSoup(content, "html.parser", from_encoding=charset)  # it may say so itself
    for tag in soup.find_all(_LEFT_OUT):
        tag.decompose()
    lines = (_SPACE.sub(" ", line).strip() for line in "".join(_pieces(soup)).split("\n"))
    return "\n".join(line for line in lines if not line or line.strip("#-| "))


def _pieces(soup: BeautifulSoup) -> Iterator[str]:
    """The text in document order, with a line break at the edge of each block. Not recursive: nesting has no bound."""
    open_tags: list[Tag] = []
    for element in soup.descendants:
        while open_tags and element.parent is not open_tags[-1]:
            yield _end(open_tags.pop())
        if isinstance(element, Tag):
            open_tags.append(element)
            yield _begin(element)
        elif isinstance(element, NavigableString) and not isinstance(element, PreformattedString):
            yield _SPACE.sub(" ", element)
    while open_tags:
        yield _end(open_tags.pop())


def _begin(tag: Tag) -> str:
    if tag.name in _LINES:
        return "\n" + _LINES[tag.name]
    return "\n\n" + _HEADINGS.get(tag.name, "") if tag.name in _BLOCKS else ""


def _end(tag: Tag) -> str:
    if tag.name in _CELLS:
        return " | "
    if tag.name in _LINES:
        return ""
    return "\n\n" if tag.name in _BLOCKS else ""


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
