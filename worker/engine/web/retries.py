"""When a request that failed for now is made again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})
"""Answers by which a server says that the same request may succeed later."""

_BASE_SECONDS: Final = 0.25
_CEILING_SECONDS: Final = 4.0


def pause_seconds(failures: int, retry_after: float | None, longest: float) -> float | None:
    """How long to wait after so many failures, or None if the server asks for more patience than there is.

    The pause doubles with each failure and is drawn from its upper half; what the server asks for is its lower bound.
    """
    ceiling = min(_CEILING_SECONDS, _BASE_SECONDS * 2 ** (failures - 1))
    pause = max(random.uniform(ceiling / 2, ceiling), retry_after or 0.0)  # noqa: S311 -- spreads retries, no secret
    return pause if pause <= longest else None


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """What an answer's Retry-After asks for, whether it counts seconds or names a moment; None if it asks for nothing."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
