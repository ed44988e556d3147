"""The checkpoint: what a conversation is after a turn, and all that the next turn starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from worker.conversation.history import Message

VERSION: Literal[1] = 1


class UnknownCheckpointVersion(TurnWorkerError):
    """A checkpoint was written by a release this one does not know."""

    code: ClassVar[str] = "unknown_checkpoint_version"

    def __init__(self, version: object) -> None:
        super().__init__(version)
        self.version = version

    def __str__(self) -> str:
        return (
            f"The checkpoint has version {self.version!r}, but this release reads version {VERSION}. "
            "Run the turn with the release that wrote the checkpoint, or a later one."
        )


class MalformedCheckpoint(TurnWorkerError):
    """A checkpoint has a field of the wrong shape."""

    code: ClassVar[str] = "malformed_checkpoint"

    def __init__(self, place: str, expected: str) -> None:
        super().__init__(place, expected)
        self.place = place
        self.expected = expected

    def __str__(self) -> str:
        return f"The checkpoint is malformed: {self.place} must be {self.expected}. Create it with the right shape."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a conversation is after a turn. Nothing in it is ever changed in place.

    Attributes:
        version: Version of this format.
        anchor_turn_id: The turn after which it was written; None before any.
        current_node_id: The node the conversation stands on; None before the start node was entered.
        messages: The model's context, each message as its provider knows it.
        gathered_context: What the conversation has learned.
        tool_state: What tools remember from one turn to the next.
        extras: Fields that this release does not know and hands on unchanged.
    """

    version: Literal[1] = VERSION
    anchor_turn_id: str | None = None
    current_node_id: str | None = None
    messages: list[Message] = field(default_factory=list)
    gathered_context: dict[str, JsonValue] = field(default_factory=dict)
    tool_state: dict[str, JsonValue] = field(default_factory=dict)
    extras: dict[str, JsonValue] = field(default_factory=dict)

    def to_json(self) -> dict[str, JsonValue]:
        """Write it down: the six fields, and whatever unknown ones it came with."""
        return {
            **self.extras,
            "version": self.version,
            "anchor_turn_id": self.anchor_turn_id,
            "current_node_id": self.current_node_id,
            "messages": cast("list[JsonValue]", self.messages),
            "gathered_context": self.gathered_context,
            "tool_state": self.tool_state,
        }


_KNOWN = frozenset(known.name for known in fields(Checkpoint)) - {"extras"}


def normalize_checkpoint(value: object) -> Checkpoint:
    """Read a stored checkpoint. A missing one, and a missing or null field, becomes an empty default.

    The result shares its messages and contexts with `value`.

    Raises:
        UnknownCheckpointVersion: Its version is not 1.
        MalformedCheckpoint: It, or one of its fields, has the wrong shape.
    """
    if value is None:
        return Checkpoint()
    stored = _object(value, "it")
    version = stored.get("version")
    if version is not None and (version != VERSION or isinstance(version, bool)):
        raise UnknownCheckpointVersion(version)
    return Checkpoint(
        anchor_turn_id=_text(stored, "anchor_turn_id"),
        current_node_id=_text(stored, "current_node_id"),
        messages=_messages(stored.get("messages")),
        gathered_context=_object(stored.get("gathered_context"), "gathered_context"),
        tool_state=_object(stored.get("tool_state"), "tool_state"),
        extras={name: item for name, item in stored.items() if name not in _KNOWN},
    )


def _text(stored: Mapping[str, object], name: str) -> str | None:
    value = stored.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MalformedCheckpoint(name, "text or null")


def _object(value: object, place: str) -> dict[str, JsonValue]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise MalformedCheckpoint(place, "a JSON object")


def _messages(value: object) -> list[Message]:
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return value
    raise MalformedCheckpoint("messages", "a list of JSON objects")
