"""Named moments at which a test may let a worker die, stand still or lose a server. In production nothing happens there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

BEFORE_JOURNAL_COMMIT: Final = "before_journal_commit"
"""Steps are about to be written."""

AFTER_JOURNAL_COMMIT: Final = "after_journal_commit"
"""Steps are written, and whoever waits for that is about to be told."""

FaultPoint = Callable[[str], Awaitable[None]]
"""Called with the name of the moment; what it does not return from, the worker does not get past."""


async def no_fault(_name: str) -> None:
    """What production passes."""
