"""The ledger of what a turn still waits for. It empties when the turn is finished: no polling, no settle delay."""

from __future__ import annotations

import asyncio


class Outstanding:
    """What has begun and not ended, by name, and the failure that makes waiting pointless.

    Whoever ends one thing in order to begin another begins first, so that the ledger is never empty in between.
    """

    def __init__(self) -> None:
        self._open: dict[str, None] = {}
        self._begun = 0
        self._failure: Exception | None = None
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def names(self) -> tuple[str, ...]:
        """What is outstanding, oldest first."""
        return tuple(self._open)

    @property
    def begun(self) -> int:
        """How many things have begun so far; unchanged means that nothing new has."""
        return self._begun

    def begin(self, name: str) -> None:
        """Note that something has begun."""
        self._open[name] = None
        self._begun += 1
        if self._failure is None:
            self._settled.clear()

    def end(self, name: str) -> None:
        """Note that it has ended."""
        del self._open[name]
        if not self._open:
            self._settled.set()

    def fail(self, failure: Exception) -> None:
        """End all waiting with this failure. Only the first one counts."""
        if self._failure is None:
            self._failure = failure
            self._settled.set()

    def reset(self) -> None:
        """Begin anew after a failure, with nothing outstanding."""
        self._open.clear()
        self._failure = None
        self._settled.set()

    async def settled(self) -> None:
        """Wait until nothing is outstanding.

        Raises:
            Exception: The failure, as soon as there is one.
        """
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure
