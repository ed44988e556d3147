"""Keeping secrets out of everything that is written down: log lines, stored error messages, answers to callers.

Two ways, because either alone misses some: by what a secret looks like (`sk-ant-...`, a Bearer token, the password in
a URL, `api_key=...`), and, in structured values, by the name of the field that holds it.

Masking errs on the side of hiding: a harmless word after `token:` may go too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final, NamedTuple

MASK: Final = "***"
"""What stands where a secret stood."""

_MAX_DEPTH: Final = 8


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    replacement: str = rf"\g<keep>{MASK}"


def _rule(pattern: str, replacement: str = rf"\g<keep>{MASK}") -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE | re.ASCII), replacement)


# A token begins where a word does, or after a line end written out as in the repr of a text.
_START = r"(?:(?<![a-z0-9])|(?<=\\[nrt]))"
_NAME = r"(?:api[-_ ]?key|(?:secret|access|private)[-_]?key|secret|passw(?:or)?d|passphrase|token|authorization)"
# Inside JSON inside JSON, quotes carry backslashes. An escaped quote within the value does not end it.
_QUOTE = r"(?P<quote>\\*[\"'])"
_QUOTED = r"(?:(?!(?P=quote))(?:\\.|.))+"

_RULES: Final = (
    # "api_key": "value", api_key='value', 'x-api-key': ['value']
    _rule(rf"(?P<keep>{_NAME}\\*[\"']?\s*[:=]\s*[\[(]?b?{_QUOTE}){_QUOTED}"),
    # the pairs of a list of headers: (b'x-api-key', b'value')
    _rule(rf"(?P<keep>[\"'][\w-]{{0,40}}{_NAME}\\*[\"']\s*,\s*b?{_QUOTE}){_QUOTED}"),
    # api_key=value, Authorization: Basic value; not api_key=None
    _rule(
        rf"(?P<keep>{_NAME}\\*[\"']?\s*[:=]\s*)"
        r"(?!\\+[\"']|(?:none|null|true|false)(?![^\s,;&)}\]]))"
        r"(?:(?:basic|bearer|digest|token)\s+)?+"
        r"[^\s&;\"'<>()\[\]{}]*[^\s&;\"'<>()\[\]{},]"
    ),
    _rule(r"(?P<keep>bearer\s+)[a-z0-9._~+/=-]{8,}"),
    # scheme://user:password@host; a port and its path are no password, even if an @ follows
    _rule(r"(?P<keep>://[^\s:/?#@\[\"<>]*:)(?!\d{1,5}(?:[/?#\s\"']|$))(?:(?!://)[^\s\"<>])+(?=@)"),
    # keys of Anthropic, OpenAI, Langfuse and those who copied them
    _rule(rf"(?P<keep>sk-ant-|{_START}sk-(?:(?:admin|lf|or|proj|svcacct)-)?+)[\w-]{{8,}}"),
    # keys of this project's API
    _rule(r"(?P<keep>twk_)[\w-]+"),
    # keys of Groq, xAI, Hugging Face, Google, NVIDIA, GitHub, Slack
    _rule(rf"(?P<keep>{_START}(?:gsk_|xai-|hf_|aiza|nvapi-|gh[oprsu]_|github_pat_|xox[abeprs]-))[\w-]{{16,}}"),
    # access tokens of Google
    _rule(rf"(?P<keep>{_START}ya29\.)[\w.-]{{16,}}"),
    # keys of Amazon Bedrock, lasting and passing ones, in base64
    _rule(rf"(?P<keep>{_START}(?:absk|bedrock-api-key-))[\w+/-]{{16,}}=*"),
    # JSON Web Tokens
    _rule(rf"(?P<keep>{_START}eyj)[\w-]{{8,}}\.[\w-]+\.[\w-]*"),
    # Fernet keys, and what they encrypted
    _rule(r"(?:(?<![\w-])|(?<=\\[nrt]))[\w-]{43}=(?!=)", MASK),
    _rule(r"(?P<keep>gaaaaa)[\w-]{20,}={0,2}"),
    _rule(r"(?P<keep>-----begin [a-z ]*private key-----)(?:(?!-----end)[\s\S])+"),
)

# Where none of these occurs no rule can match: a text without secrets, nearly every text, costs under a microsecond.
_HINTS: Final = (
    *("key", "secret", "passw", "passphrase", "token", "authorization", "bearer", "://", "sk-", "twk_", "gsk_", "xai-"),
    *("hf_", "aiza", "ya29", "absk", "nvapi-", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "xox"),
    *("eyj", "gaaaaa", "="),
)

_SECRET_NAME = re.compile(
    r"api_?key|(?:secret|access|private)_?key|secret|passw(?:or)?d|passphrase|token|authorization|cookie"
)


def mask_secrets(text: str) -> str:
    """Replace everything in a text that looks like a secret with `***`, and leave the rest as it is.

    What tells an operator which secret it is stays: the name before it, the user and host of a URL, a key's prefix.
    Masking a text twice changes nothing more.
    """
    lowered = text.lower()
    for hint in _HINTS:
        if hint in lowered:
            break
    else:
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def mask_values(value: object, *, depth: int = 0) -> object:
    """Mask the secrets in a structure of any depth and make it one that JSON can hold.

    Texts go through `mask_secrets`, mappings and sequences are followed, and whatever a mapping holds under the name of
    a secret (`api_key`, `password`, ...) is masked whole. Anything else becomes its text. The argument is not changed.
    """
    if isinstance(value, str):
        return mask_secrets(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {str(key): mask_field(str(key), held, depth=depth + 1) for key, held in value.items()}
        if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], (str, bytes)):
            # Headers often come as a list of pairs.
            name = value[0] if isinstance(value[0], str) else value[0].decode(errors="replace")
            return [mask_secrets(name), mask_field(name, value[1], depth=depth + 1)]
        if isinstance(value, (list, tuple, AbstractSet)):
            return [mask_values(item, depth=depth + 1) for item in value]
    return mask_secrets(_as_text(value))


def mask_field(name: str, value: object, *, depth: int = 0) -> object:
    """Mask a value that stands under a name: all of it if the name is that of a secret."""
    if value and not isinstance(value, bool) and _names_a_secret(name):
        return MASK
    return mask_values(value, depth=depth)


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    # Fields end with what they hold: x-api-key, client_secret, accessToken; but not prompt_tokens or password_changed_at.
    return bool(re.search(rf"(?:{_SECRET_NAME.pattern})\Z", name.lower().replace("-", "_")))


def _as_text(value: object) -> str:
    try:
        # The str of an exception does not say which one it is, and that of bytes is a warning under -b.
        return repr(value) if isinstance(value, (BaseException, bytes, bytearray)) else str(value)
    except Exception as error:  # noqa: BLE001 -- a defect in someone's __str__ must not cost the log line
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
