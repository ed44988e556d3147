"""Recordings as a text conversation shows them: where voice would play audio, the user reads what is said in it.

A model may answer with a recording too, where the prompt of a node names some (`RECORDING_ID: ...`) and the organization
has any. Its reply then begins with one of two markers: `●` and a recording's id, or `▸` and a text. The markers stay in
the model's context, so that it goes on as it began, and never reach the user.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from worker.conversation import event

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from worker.engine.capture import Capture

ID_MARKER: Final = "RECORDING_ID:"
"""How a prompt introduces the id of a recording that the model may answer with."""

_RECORDING: Final = "●"
_TEXT: Final = "▸"
_ANSWER: Final = re.compile(
    r"●\s*(?:RECORDING_ID:\s*)?[\[(<`\"']*(?P<id>[\w-]+)[\])>`\"'.,:;]*\s*(?P<rest>.*)", re.DOTALL
)
"""A model's answer with a recording. Models wrap the id as they saw it wrapped, and like to write down what is said."""


class Recordings(Protocol):
    """Knows an organization's recordings."""

    async def transcript(self, recording_id: str) -> str | None:
        """Look up what is said in a recording; None when there is no such recording."""
        ...

    async def exist(self) -> bool:
        """Tell whether the organization has any. Asked only where a prompt names a recording."""
        ...


class RecordedSpeech:
    """Puts recordings into text for one turn."""

    def __init__(self, recordings: Recordings | None, capture: Capture, clock: Callable[[], datetime]) -> None:
        self._recordings = recordings
        self._capture = capture
        self._clock = clock
        self._exist: bool | None = None

    async def transcript(self, recording_id: str) -> str:
        """What is said in a recording. Nothing, and an event, when there is no such recording."""
        text = await self._look_up(recording_id)
        if not text:
            self._capture.events.append(event.recording_missing(self._clock(), recording_id=recording_id))
        return text

    async def answers(self, prompt: str) -> bool:
        """Tell whether the model may answer with recordings where this is its prompt."""
        return ID_MARKER in prompt and await self._any_exist()

    async def shown(self, reply: str, *, answers: bool) -> str:
        """What the user reads of a reply, which may begin with a marker.

        A model that has learned the markers may go on using them on a node that has no recordings. There, only the id of a
        recording makes a reply that begins with `●` more than a list.

        Args:
            reply: What the model said.
            answers: Whether it may answer with recordings.
        """
        if not reply.startswith((_RECORDING, _TEXT)) or not await self._any_exist():
            return reply
        if reply.startswith(_TEXT):
            return reply.removeprefix(_TEXT).strip()
        found = _ANSWER.fullmatch(reply)
        if found is None:
            return reply.removeprefix(_RECORDING).strip() if answers else reply
        if answers:
            return await self.transcript(found["id"]) or found["rest"]
        return await self._look_up(found["id"]) or reply

    async def _look_up(self, recording_id: str) -> str:
        if self._recordings is None or not recording_id:
            return ""
        return (await self._recordings.transcript(recording_id) or "").strip()

    async def _any_exist(self) -> bool:
        if self._exist is None:
            self._exist = self._recordings is not None and await self._recordings.exist()
        return self._exist
