"""What is published: a CloudEvents 1.0 JSON envelope, and the name of the channel it goes to.

`asyncapi.yaml` beside this module describes both for people who write subscribers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Self
from uuid import UUID

from worker.errors import TurnWorkerError

SESSION_LEVEL: Final = "-"
"""Stands in a channel's name where the turn would be, for events of the session itself."""

CANCELLATIONS: Final = "cancelled.*"
"""The PSUBSCRIBE pattern of the channels on which workers, and nobody else, hear of turns that were called off."""

_encode_json = json.JSONEncoder(separators=(",", ":")).encode


class UnreadableEnvelope(TurnWorkerError):
    """A message on the channel is not one of our envelopes."""

    code: ClassVar[str] = "unreadable_envelope"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"A message on the channel is no CloudEvents 1.0 envelope as asyncapi.yaml describes it: {self.reason}. "
            "Find out who else publishes on channels that begin with 'turns.'."
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event of a session's log, without its particulars: enough to know that something happened, to what, and in
    which order. Whoever wants more reads it from PostgreSQL, through the API.

    Attributes:
        organization_id: Whose session it is.
        session_id: The session in whose log the event stands.
        turn_id: The turn it is about; None for an event of the session itself.
        sequence: Its number in the session's log: from 1, without gaps. Pub/sub may deliver out of order and twice;
            this number puts that right.
        type: What happened: one of `worker.channel.event_types`, or a type of a later version.
        time: When, with its time zone.
        status: The status the turn took on with this event; None if it took on none.
        revision: The session's revision after this event; None if the event does not raise it.
    """

    organization_id: UUID
    session_id: UUID
    turn_id: UUID | None
    sequence: int
    type: str
    time: datetime
    status: str | None = None
    revision: int | None = None

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError("An envelope's time needs its time zone; got a naive datetime.")

    @property
    def channel(self) -> str:
        """The channel this event is published on."""
        return channel_name(self.organization_id, self.session_id, self.turn_id)

    @property
    def cancellation_channel(self) -> str | None:
        """The second channel, for workers, on which the end of a cancelled turn is published; None for other events.

        Workers would otherwise have to hear everything that happens to every turn to find the few events that concern them.
        """
        if self.status != "cancelled":
            return None
        return f"cancelled.{self.organization_id}.{self.session_id}.{self.turn_id}"

    def encode(self) -> str:
        """Write the envelope as compact JSON, about 530 bytes, ready to be published."""
        organization_id = str(self.organization_id)
        session_id = str(self.session_id)
        turn_id = None if self.turn_id is None else str(self.turn_id)
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{session_id}/{self.sequence}",
            "source": f"/organizations/{organization_id}/sessions/{session_id}",
            "type": self.type,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "organization_id": organization_id,
                "session_id": session_id,
                "turn_id": turn_id,
                "sequence": self.sequence,
                "status": self.status,
                "revision": self.revision,
            },
        }
        if turn_id is not None:
            event["subject"] = turn_id
        return _encode_json(event)

    @classmethod
    def decode(cls, message: str | bytes) -> Self:
        """Read an envelope back. Attributes and data it does not know are left aside, so that later versions may add some.

        Raises:
            UnreadableEnvelope: the message is not such an envelope.
        """
        try:
            event = json.loads(message)
            if event["specversion"] != "1.0":
                raise UnreadableEnvelope(f"its specversion is {event['specversion']!r}")
            data = event["data"]
            turn_id = data["turn_id"]
            return cls(
                organization_id=UUID(data["organization_id"]),
                session_id=UUID(data["session_id"]),
                turn_id=None if turn_id is None else UUID(turn_id),
                sequence=int(data["sequence"]),
                type=str(event["type"]),
                time=datetime.fromisoformat(event["time"]),
                status=data["status"],
                revision=data["revision"],
            )
        except KeyError as error:
            raise UnreadableEnvelope(f"it has no {error.args[0]!r}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise UnreadableEnvelope(str(error)) from error


def channel_name(organization_id: UUID, session_id: UUID, turn_id: UUID | None) -> str:
    """The Redis channel of one turn's events, or with no turn, that of the session's own events."""
    return f"turns.{organization_id}.{session_id}.{SESSION_LEVEL if turn_id is None else turn_id}"


def channel_pattern(
    organization_id: UUID | None = None, session_id: UUID | None = None, turn_id: UUID | None = None
) -> str:
    """The PSUBSCRIBE pattern of everything about what is named: a turn, a session, an organization, or all there is.

    The ids are UUIDs, which hold no character that a pattern gives a meaning to; so nobody can widen a pattern by
    the id that they ask for.
    """
    parts = [str(part) if part is not None else "*" for part in (organization_id, session_id, turn_id)]
    while parts[-2:] == ["*", "*"]:
        parts.pop()
    return ".".join(["turns", *parts])
