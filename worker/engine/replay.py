"""What a turn has come to: the fold of its journalled steps over the checkpoint it began with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from worker.conversation import event
from worker.engine.journal import Answered, Change, Replied, Started
from worker.engine.round import Round

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from pydantic import JsonValue

    from worker.engine.capture import Capture
    from worker.engine.journal import Step
    from worker.engine.llm.reply import ToolCall
    from worker.engine.transcript import Transcript

CALLED_OFF: Final[dict[str, JsonValue]] = {
    "status": "unknown",
    "message": "The user went on before this call had ended. Whether it took effect is not known.",
}
"""The result of a call that was running when its turn was interrupted."""


class Progress:
    """How far a turn has come.

    Attributes:
        replies: How many replies of the model the turn has had.
        heard: How many of its user messages are in the context.
        node_id: The node the conversation stands on; None before it was on any.
        round: The calls of the last reply; None before any.
    """

    def __init__(self, node_id: str | None) -> None:
        self.replies = 0
        self.heard = 0
        self.node_id = node_id
        self.round: Round | None = None


def replay(steps: Iterable[Step], *, node_id: str | None, transcript: Transcript, capture: Capture) -> Progress:
    """Fold steps into what a turn leaves behind, without running anything.

    Args:
        steps: The journal, oldest first. Any beginning of it will do.
        node_id: The node of the checkpoint that the turn began with.
        transcript: The context of that checkpoint; it becomes what it was after the last step.
        capture: An empty one; it too becomes what it was.
    """
    progress = Progress(node_id)
    for step in steps:
        match step:
            case Replied():
                _add_messages(step, progress, transcript)
                progress.replies = step.number
                progress.heard = step.heard
                progress.round = Round(
                    step.calls, number=step.number, transitions=step.transitions, closing=step.closing
                )
            case Started() if progress.round is not None:
                progress.round.started.update(step.call_ids)
            case Answered() if progress.round is not None:
                progress.round.answer(step.call_id, step.result)
        capture.apply(step.change)
        progress.node_id = step.change.node_id or progress.node_id
    return progress


def _add_messages(step: Replied, progress: Progress, transcript: Transcript) -> None:
    if progress.round is not None:
        transcript.add_tool_results(progress.round.ordered_results)
    for message in step.messages:
        transcript.add_reply(message)
    transcript.take_change()


def carry_over(steps: Sequence[Step], now: datetime) -> list[Step]:
    """What a turn takes over from the one it interrupts: the context with finished calls and their results.

    What was said to the user goes with the turn that said it, and so do the number of a reply and an end of the session
    with what is known of it: the session goes on. A call that had no result gets one that says so: its tool was stopped, and
    is not run again for a user who has gone on.
    """
    last_reply = next((step for step in reversed(steps) if isinstance(step, Replied)), None)
    if last_reply is None:
        return []
    answered = {step.call_id for step in steps if isinstance(step, Answered)}
    return [
        *(_without_its_turn(step) for step in steps),
        *(_call_off(call, now) for call in last_reply.calls if call.id not in answered),
    ]


def _without_its_turn(step: Step) -> Step:
    change = replace(step.change, segments=(), said_at=None, end_reason=None)
    if step.change.end_reason is not None:
        learned = {name: value for name, value in change.learned.items() if name != "call_disposition"}
        events = tuple(happened for happened in change.events if happened.type != event.HAND_OVER)
        change = replace(change, learned=learned, events=events)
    if isinstance(step, Replied):
        return replace(step, number=0, change=change)
    return replace(step, change=change)


def _call_off(call: ToolCall, now: datetime) -> Answered:
    result = event.tool_call_result(now, function_name=call.name, tool_call_id=call.id, result=CALLED_OFF)
    return Answered(call_id=call.id, result=CALLED_OFF, change=Change(events=(result,)))
