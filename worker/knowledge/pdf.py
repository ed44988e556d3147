"""The text of a PDF, page by page."""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from worker.knowledge.extraction import UnreadableDocument

if TYPE_CHECKING:
    from collections.abc import Iterator


def pdf_pages(content: bytes, limit: int) -> Iterator[str]:
    """The text of each page.

    Raises:
        UnreadableDocument: when it cannot be opened, needs a password, or has more than `limit` pages.
    """
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is odd about a stranger's file is no news of ours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield from _pages(content, limit)
        except UnreadableDocument:
            raise
        except Exception as error:  # a broken file breaks the parser in ways it does not foresee either
            raise _broken(error) from error


def _pages(content: bytes, limit: int) -> Iterator[str]:
    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableDocument("document_encrypted", "The PDF needs a password. Upload it without protection.")
    count = len(reader.pages)
    if count > limit:
        raise UnreadableDocument("document_too_long", f"The PDF has {count:,} pages; at most {limit:,} are read.")
    for page in reader.pages:
        yield page.extract_text()


def _broken(error: Exception) -> UnreadableDocument:
    reason = str(error) if isinstance(error, PyPdfError) else type(error).__name__
    return UnreadableDocument("document_broken", f"The PDF cannot be read: {reason}. Save it anew and upload that.")
