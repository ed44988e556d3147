"""What a turn leaves behind while it runs: what was said, what happened, what was learned, what it used."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from worker.conversation import event
from worker.conversation.history import same_json
from worker.conversation.usage import LLMUsage, Usage, usage_key
from worker.engine.journal import Change
from worker.engine.live_text import SEPARATOR, LiveText

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.engine.failures import TurnFailed
    from worker.engine.request import LLMCall, ResolvedModel, UsageLedger

_Failure = TypeVar("_Failure", bound="TurnFailed")


class Capture:
    """Collects one attempt.

    Attributes:
        events: What happened, in order.
        gathered_context: What the conversation has learned: a copy of what it knew before, free to be changed.
        tool_state: What tools left for their next call: a copy too.
        assistant_created_at: When the last segment was complete; None while nothing was said.
        end_reason: Why a tool ended the session; None while it goes on.
        live: What the user reads, for whoever reads along.
    """

    def __init__(
        self,
        gathered_context: Mapping[str, JsonValue],
        ledger: UsageLedger | None,
        clock: Callable[[], datetime],
        tool_state: Mapping[str, JsonValue] | None = None,
        live: LiveText | None = None,
    ) -> None:
        self.events: list[TurnEvent] = []
        self.gathered_context: dict[str, JsonValue] = deepcopy(dict(gathered_context))
        self.tool_state: dict[str, JsonValue] = deepcopy(dict(tool_state or {}))
        self.assistant_created_at: datetime | None = None
        self.end_reason: str | None = None
        self.live = live or LiveText(None)
        self._segments: list[str] = []
        self._journalled = _Mark(gathered_context=gathered_context, tool_state=tool_state or {})
        self._llm: dict[str, LLMUsage] = {}
        self._ledger = ledger
        self._clock = clock
        self._started = time.monotonic()

    @property
    def assistant_text(self) -> str | None:
        """Every segment, in order, separated by blank lines; None when there is none."""
        return SEPARATOR.join(self._segments) or None

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return Usage(llm=dict(self._llm), call_duration_seconds=time.monotonic() - self._started)

    def say(self, text: str) -> None:
        """Add a segment to what the user reads. Blank text is none."""
        segment = text.strip()
        if segment:
            self._segments.append(segment)
            self.assistant_created_at = self._clock()
            self.live.complete(segment)

    def learn(self, name: str, value: JsonValue) -> None:
        """Add a value to what the conversation has learned, in place of what it knew by this name."""
        self.gathered_context[name] = value

    def append_once(self, name: str, value: str) -> None:
        """Add a value to a list of what the conversation has learned, unless it is there already."""
        known = self.gathered_context.get(name)
        items = known if isinstance(known, list) else []
        if value not in items:
            self.gathered_context[name] = [*items, value]

    def count(self, call: LLMCall) -> None:
        """Add what an LLM call used, and write it down at once: it was paid for, whatever becomes of the turn."""
        key = usage_key(call.processor, call.model)
        self._llm[key] = self._llm.get(key, LLMUsage()) + call.usage
        if self._ledger is not None:
            self._ledger.record(call)

    def take_change(self) -> Change:
        """What happened since this was last asked, for writing down at once."""
        mark = self._journalled
        new_segments = self._segments[mark.segments :]
        change = Change(
            segments=new_segments,
            said_at=self.assistant_created_at if new_segments else None,
            events=self.events[mark.events :],
            learned=_changed(mark.gathered_context, self.gathered_context),
            tool_state=_changed(mark.tool_state, self.tool_state),
            end_reason=None if mark.end_reason else self.end_reason,
        )
        self._set_mark()
        return change

    def apply(self, change: Change) -> None:
        """Let what an earlier attempt wrote down happen here too."""
        self._segments += change.segments
        self.live.skip(change.segments)
        self.assistant_created_at = change.said_at or self.assistant_created_at
        self.events += change.events
        self.gathered_context.update(deepcopy(dict(change.learned)))
        self.tool_state.update(deepcopy(dict(change.tool_state)))
        self.end_reason = self.end_reason or change.end_reason
        self._set_mark()

    def fall_back(self, failure: TurnFailed, fallback: ResolvedModel) -> None:
        """Note that a model failed and another is asked in its place."""
        self.events.append(
            event.model_fallback(
                self._clock(),
                code=failure.code,
                message=str(failure),
                llm_provider=fallback.provider,
                llm_model=fallback.model,
            )
        )

    def close_failed(self, failure: _Failure) -> _Failure:
        """Hand everything over to a failure, closed by its event."""
        self.events.append(event.execution_error(self._clock(), code=failure.code, message=str(failure)))
        failure.events = tuple(self.events)
        failure.usage = self.usage
        return failure

    def _set_mark(self) -> None:
        self._journalled = _Mark(
            segments=len(self._segments),
            events=len(self.events),
            gathered_context=deepcopy(self.gathered_context),
            tool_state=deepcopy(self.tool_state),
            end_reason=self.end_reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """How far what happened has been written down."""

    gathered_context: Mapping[str, JsonValue]
    tool_state: Mapping[str, JsonValue]
    segments: int = 0
    events: int = 0
    end_reason: str | None = None


def _changed(before: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in now.items() if name not in before or not same_json(before[name], value)}
