"""How text is prepared before PostgreSQL makes words of it: the same for what is searched and for what is asked.

PostgreSQL splits at spaces and lowers letters as the database's locale knows them. This makes it work in any locale, in
scripts that write no spaces, and for people who leave accents out.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from worker.storage.documents import SIMPLE

# Chinese, Japanese and Korean: each character becomes a word. Their punctuation, and the full-width forms, become spaces.
_CHARACTERS: Final = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")
_PUNCTUATION: Final = re.compile("[\u3000-\u303f\u30fb\uff00-\uffef]")
_ACCENTS: Final = re.compile("[\u0300-\u036f]")


def searchable(text: str, language: str) -> str:
    """Prepare a text of a language. Accents are left where a language's own rules know what to do with them."""
    text = unicodedata.normalize("NFKC", text.replace("\0", " ").encode("utf-8", "replace").decode()).lower()
    if language == SIMPLE:
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    return _CHARACTERS.sub(r" \1 ", _PUNCTUATION.sub(" ", text))
