"""Writes a turn's steps down as they are finished."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.engine.journal import Answered, Change, Replied, Started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from worker.engine.capture import Capture
    from worker.engine.journal import Journal
    from worker.engine.nodes import Stage
    from worker.engine.outstanding import Outstanding
    from worker.engine.round import Round
    from worker.engine.transcript import Transcript

_WAITS_FOR = "the journal"


class Recorder:
    """Knows what each step changed: everything that happened since the step before.

    Args:
        journal: Where to write; None writes nothing, and then nothing is looked for either.
        node_id: The node the conversation stood on after the last step written.
        heard: How many user messages the turn has: whenever the model replies, all of them are in the context.
    """

    def __init__(
        self,
        journal: Journal | None,
        *,
        transcript: Transcript,
        capture: Capture,
        stage: Stage,
        outstanding: Outstanding,
        node_id: str | None,
        heard: int,
    ) -> None:
        self._journal = journal
        self._transcript = transcript
        self._capture = capture
        self._stage = stage
        self._outstanding = outstanding
        self._node_id = node_id
        self._heard = heard

    def replied(self, calls: Round) -> None:
        """The model replied and called tools."""
        if self._journal is not None:
            self._journal.record(
                Replied(
                    number=calls.number,
                    heard=self._heard,
                    messages=self._transcript.take_change(),
                    calls=tuple(calls.calls.values()),
                    transitions=calls.transitions,
                    closing=calls.closing,
                    change=self._change(),
                )
            )

    async def starting(self, call_ids: Sequence[str]) -> None:
        """Tools are about to run. Returns when this, and all before it, is safe: they must not run before.

        Raises:
            Exception: It can never be safe; the tools must not run.
        """
        if self._journal is not None and call_ids:
            self._journal.record(Started(call_ids=tuple(call_ids), change=self._change()))
            self._outstanding.begin(_WAITS_FOR)
            try:
                await self._journal.written()
            except Exception as error:
                self._outstanding.fail(error)
                raise
            self._outstanding.end(_WAITS_FOR)

    def answered(self, call_id: str, result: JsonValue) -> None:
        """A call has its result, with everything that it led to."""
        if self._journal is not None:
            self._journal.record(Answered(call_id=call_id, result=result, change=self._change()))

    def _change(self) -> Change:
        change, node_id = self._capture.take_change(), self._stage.view.node.id
        if node_id == self._node_id:
            return change
        self._node_id = node_id
        return replace(change, node_id=node_id)
