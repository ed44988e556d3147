"""What the user reads, passed on while it is still being said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

SEPARATOR: Final = "\n\n"
"""What stands between two segments."""

_MARKERS: Final = ("●", "▸")
"""A reply that begins so may be shown as something else (see `worker.engine.recordings`): it is passed on when it is whole."""


class TextSink(Protocol):
    """Where text goes as it is generated. Offsets count characters of the turn's whole text."""

    def begin(self, offset: int) -> None:
        """An attempt begins; what was passed on up to this offset stands, and all beyond it is void. Returns at once."""
        ...

    def write(self, offset: int, text: str) -> None:
        """From this offset on the text is this; whatever was beyond it is void. Returns at once and does not raise."""
        ...


class LiveText:
    """Makes of words and segments the very text that the turn will end with, piece by piece."""

    def __init__(self, sink: TextSink | None) -> None:
        self._sink = sink
        self._length = 0  # of the segments that are complete
        self._open = ""  # what was passed on of the one that is not, its separator included
        self._held = ""  # white space that counts only if something follows
        self._withheld = False

    def skip(self, segments: Sequence[str]) -> None:
        """Take segments that an earlier attempt said, and passed on."""
        for segment in segments:
            self._length += len(self._separated(segment))

    def begin(self) -> None:
        """Begin, behind what was skipped."""
        if self._sink is not None:
            self._sink.begin(self._length)

    def restart(self) -> None:
        """A reply begins; if another one was broken off, what was passed on of it is void."""
        if self._sink is not None and self._open:
            self._sink.write(self._length, "")
        self._open = self._held = ""
        self._withheld = False

    def add(self, words: str) -> None:
        """Take words of a reply that goes on."""
        if self._sink is None or self._withheld:
            return
        words = self._held + words
        if not self._open:
            words = words.lstrip()
            self._withheld = words.startswith(_MARKERS)
            if self._withheld:
                return
        visible = words.rstrip()
        self._held = words[len(visible) :]
        if visible:
            if not self._open:
                visible = self._separated(visible)
            self._sink.write(self._length + len(self._open), visible)
            self._open += visible

    def complete(self, segment: str) -> None:
        """Take a whole segment: the reply whose words came before, or something said without the model."""
        if self._sink is None:
            return
        whole = self._separated(segment)
        if not whole.startswith(self._open):
            self._sink.write(self._length, whole)
        elif whole != self._open:
            self._sink.write(self._length + len(self._open), whole[len(self._open) :])
        self._length += len(whole)
        self._open = self._held = ""
        self._withheld = False

    def _separated(self, segment: str) -> str:
        return f"{SEPARATOR}{segment}" if self._length else segment
