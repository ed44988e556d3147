"""The journal of a turn: each finished step, as data, so that another attempt goes on from the last one.

What a turn has come to is the fold of its steps over the checkpoint it began with (see `worker.engine.replay`). A reply that
calls tools, the start of those tools and each result are steps. A reply without tool calls is none: the turn ends with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 -- pydantic reads the annotations
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 -- the same
from typing import Annotated, Final, Literal, Protocol, TypeAlias

from pydantic import Field, JsonValue, TypeAdapter

from worker.conversation.event import TurnEvent  # noqa: TC001 -- the same
from worker.engine.llm.reply import ToolCall  # noqa: TC001 -- the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happened since the step before, beside the model's context. Empty fields are not written down.

    Attributes:
        segments: What the user was told.
        said_at: When the last of it was complete.
        events: What an operator will see.
        learned: New values of the gathered context, by name.
        tool_state: What tools left for their next call, by tool.
        node_id: The node the conversation moved to; None when it stayed.
        end_reason: Why a tool ended the session; None when it did not.
    """

    segments: Sequence[str] = ()
    said_at: datetime | None = None
    events: Sequence[TurnEvent] = ()
    learned: Mapping[str, JsonValue] = field(default_factory=dict)
    tool_state: Mapping[str, JsonValue] = field(default_factory=dict)
    node_id: str | None = None
    end_reason: str | None = None


NOTHING: Final = Change()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """The model replied and wants tools. Written before the first of them starts.

    Attributes:
        number: Its place among the model's replies in this turn.
        heard: How many of the turn's user messages are in the context.
        messages: What came into the context before the reply and with it, the results of earlier calls left out.
        calls: What the model wants, in its order.
        transitions: The ids of those calls that are ways out of the node.
        closing: It is the closing reply of an end node: the model is not asked again.
        change: What else happened.
    """

    type: Literal["replied"] = "replied"
    number: int
    heard: int
    messages: Sequence[dict[str, JsonValue]]
    calls: Sequence[ToolCall]
    transitions: Sequence[str] = ()
    closing: bool = False
    change: Change = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Tools are about to run: from now on, how their calls ended is unknown until it is written down.

    Attributes:
        call_ids: The calls.
        change: What else happened.
    """

    type: Literal["started"] = "started"
    call_ids: Sequence[str]
    change: Change = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A call has its result. A transition's holds the change of node: the two are one step.

    Attributes:
        call_id: The call.
        result: What the model sees.
        change: What else the call led to.
    """

    type: Literal["answered"] = "answered"
    call_id: str
    result: JsonValue
    change: Change = NOTHING


Step: TypeAlias = Replied | Started | Answered

_STEP: Final[TypeAdapter[Step]] = TypeAdapter(Annotated[Step, Field(discriminator="type")])


def write_step(step: Step) -> dict[str, JsonValue]:
    """A step as JSON."""
    written: dict[str, JsonValue] = _STEP.dump_python(step, mode="json", exclude_defaults=True)
    return {"type": step.type, **written}


def read_step(written: object) -> Step:
    """A step from JSON.

    Raises:
        ValidationError: It is none.
    """
    return _STEP.validate_python(written)


class Journal(Protocol):
    """Where one attempt writes its steps, and finds those of the attempts before it."""

    @property
    def steps(self) -> Sequence[Step]:
        """What the turn had done before this attempt, oldest first."""
        ...

    def record(self, step: Step) -> None:
        """Take note of a step. Returns at once; steps are written in the order they came, several at a time."""
        ...

    async def written(self) -> None:
        """Wait until every step so far is safe.

        Raises:
            Exception: They can never be, because the turn is no longer this attempt's. It ends the turn.
        """
        ...
