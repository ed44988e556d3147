"""What a turn came to: everything a caller has to store, as JSON or one step from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import JsonValue

    from worker.conversation.checkpoint import Checkpoint
    from worker.conversation.event import TurnEvent
    from worker.conversation.usage import Usage

SessionState = Literal["running", "completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcome:
    """A turn that succeeded.

    Attributes:
        assistant_text: Everything the assistant said, its segments separated by blank lines; None when it said nothing.
        assistant_created_at: When the last of it was complete.
        events: What happened, in order.
        usage: What it used.
        checkpoint: What the conversation is now.
        gathered_context: What the conversation has learned, as in the checkpoint; with the `trace_url` if there is one.
        initial_context: The request's, with `runtime_configuration` added when a model is configured.
        session_state: Whether the session goes on.
    """

    assistant_text: str | None
    assistant_created_at: datetime | None
    events: tuple[TurnEvent, ...]
    usage: Usage
    checkpoint: Checkpoint
    gathered_context: dict[str, JsonValue]
    initial_context: dict[str, JsonValue]
    session_state: SessionState

    @property
    def completed(self) -> bool:
        """Whether this turn ended the session."""
        return self.session_state == "completed"
