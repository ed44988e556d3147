"""The tool calls of one reply, from the first start to the last result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from worker.engine.llm.reply import ToolCall


class Round:
    """What a reply called, and how far the calls have come.

    Attributes:
        number: The reply's place among the turn's replies.
        calls: The calls by id, in the reply's order.
        transitions: The ids of those that are ways out of the node. The first one counts.
        closing: The reply was the closing one of an end node: the model is not asked again.
        started: The ids of the calls whose tools were started by an attempt that is over.
        results: The results so far, by id.
    """

    def __init__(
        self, calls: Sequence[ToolCall], *, number: int, transitions: Sequence[str], closing: bool = False
    ) -> None:
        self.number = number
        self.calls = {call.id: call for call in calls}
        self.transitions = tuple(transitions)
        self.closing = closing
        self.started: set[str] = set()
        self.results: dict[str, JsonValue] = {}
        self._ordinary_calls_ended = asyncio.Event()

    @property
    def unanswered(self) -> tuple[ToolCall, ...]:
        """The calls without a result, in the reply's order."""
        return tuple(call for call in self.calls.values() if call.id not in self.results)

    @property
    def ordered_results(self) -> list[tuple[str, JsonValue]]:
        """The id and the result of every call, once all have one: in the order in which the model called."""
        return [(call_id, self.results[call_id]) for call_id in self.calls]

    def answer(self, call_id: str, result: JsonValue) -> None:
        """A call has its result."""
        self.results[call_id] = result
        if self._ordinary_calls_are_answered():
            self._ordinary_calls_ended.set()

    async def ordinary_calls_ended(self) -> None:
        """Wait until every call that is no transition has its result."""
        if not self._ordinary_calls_are_answered():
            await self._ordinary_calls_ended.wait()

    def _ordinary_calls_are_answered(self) -> bool:
        return all(call_id in self.results for call_id in self.calls if call_id not in self.transitions)
