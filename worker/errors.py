"""The one root of every error this package raises on purpose."""

from __future__ import annotations

from typing import ClassVar


class TurnWorkerError(Exception):
    """Something went wrong that a caller or an operator can act on.

    The message is complete by itself: it says what happened, to what, and what to do. `code` is stable
    and machine-readable: it is stored with failed turns and returned by the API, so it never changes
    its meaning. `retryable` tells whether the same request may succeed later without being changed.

    Subclasses take the parts of their message as positional arguments and hand them all to
    `Exception.__init__`, so that every error survives pickling.
    """

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
