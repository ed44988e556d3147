"""The documented `type`s of events on the channel, and what each says about its turn's status.

The list is open: an event that a turn's execution produced travels as `turn.` and its own type (`turn.node_transition`,
`turn.tool_call_started`, ...), one of the last extraction of a session that was ended from outside as `session.` and its own
(`session.variables_extracted`, ...), and later versions add types. A subscriber ignores what it does not know.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TURN_SCHEDULED: Final = "turn.scheduled"
"""A turn was stored that takes its place in the session's line later, at a time that was named."""

TURN_ENQUEUED: Final = "turn.enqueued"
"""A turn took its place in the session's line."""

TURN_MERGED: Final = "turn.merged"
"""A further message joined a turn that waits to be answered."""

TURN_STARTED: Final = "turn.started"
"""A worker claimed the turn."""

TURN_RETRYING: Final = "turn.retrying"
"""An attempt ended without a result; the turn waits to be claimed again."""

TURN_COMPLETED: Final = "turn.completed"
"""The answer is stored and the turn is the session's head."""

TURN_FAILED: Final = "turn.failed"
"""The turn will not be tried again; it carries a code and a message."""

TURN_CANCELLED: Final = "turn.cancelled"
"""The turn was called off, from outside or because its session ended."""

SESSION_REWOUND: Final = "session.rewound"
"""The session's head moved back to an earlier turn."""

SESSION_ENDING: Final = "session.ending"
"""The session takes no further turns and ends when its running turn does."""

SESSION_ENDED: Final = "session.ended"
"""The session is over and takes no further turns."""

SESSION_WEBHOOK_DELIVERED: Final = "session.webhook_delivered"
"""A webhook of the graph was told that the session has ended."""

SESSION_WEBHOOK_FAILED: Final = "session.webhook_failed"
"""A webhook of the graph could not be told, and is not tried again."""

SESSION_FINALIZED: Final = "session.finalized"
"""What is done once at the session's end is done; nothing follows in its log."""

STATUS_REPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        TURN_SCHEDULED: "scheduled",
        TURN_ENQUEUED: "pending",
        TURN_MERGED: "pending",
        TURN_STARTED: "running",
        TURN_RETRYING: "pending",
        TURN_COMPLETED: "completed",
        TURN_FAILED: "failed",
        TURN_CANCELLED: "cancelled",
    }
)
"""The turn's status after an event of this type; the other types do not change it."""
