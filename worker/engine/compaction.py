"""Replaces what was said before this turn by a summary, once the conversation has moved to another node.

A node's own part of the conversation is over when it is left, so that is when the words matter less than what they came to.
Everything of the turn itself stays word by word: what the new node goes on from, with its tool calls and their results. So
do messages in which the user shows something: a picture cannot be put into words by a model that is not shown it.
The next turn starts from the summary; the turns before keep theirs, so nothing is lost to a rewind or a reader.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import structlog

from worker.conversation import event
from worker.conversation.event import NODE_TRANSITION
from worker.engine.failures import TurnFailed
from worker.engine.normalized_history import normalized_history
from worker.engine.prompts import SUMMARY_HEADING, SUMMARY_INSTRUCTIONS
from worker.engine.side_question import SideQuestion
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from worker.conversation.event import TurnEvent
    from worker.conversation.history import Message
    from worker.engine.capture import Capture
    from worker.engine.side_question import SideQuestions

log = structlog.get_logger(__name__)

MIN_CHARACTERS: Final = 4_000
"""Less than this, as JSON, is left alone: some thousand tokens, of which a summary of 300 words would save but half, at the
price of an LLM call and of what a summary forgets."""

_PURPOSE: Final = "the summary of the earlier conversation"
_NOT_SHORTER: Final = "summary_not_shorter"
_DEFECT: Final = "compaction_defect"


class Compaction:
    """Compacts the context of one turn.

    Args:
        questions: Asks the model.
        capture: Where the events go.
        clock: The current time, with its zone.
    """

    def __init__(self, questions: SideQuestions, capture: Capture, clock: Callable[[], datetime]) -> None:
        self._questions = questions
        self._capture = capture
        self._clock = clock

    async def run(self, older: Sequence[Message]) -> list[Message] | None:
        """Summarise what was said before this turn. Never fails.

        Args:
            older: The context that the turn began with.

        Returns:
            What takes its place; None when it is to stay as it is.
        """
        shown = [message for message in older if _shows_something(message)]
        before = _size([message for message in older if message not in shown])
        if before < MIN_CHARACTERS:
            return None
        question = SideQuestion(_PURPOSE, SUMMARY_INSTRUCTIONS, normalized_history(older), kept_as="compaction")
        try:
            summary = await self._questions.ask(question)
        except TurnFailed as failure:
            self._note_failure(failure.code, str(failure))
            return None
        except Exception:
            log.exception(names.SIDE_QUESTION_DEFECT)
            self._note_failure(_DEFECT, "A defect of this program; the worker's log has the traceback.")
            return None
        message: Message = {"role": "user", "content": f"{SUMMARY_HEADING}\n\n{summary}"}
        after = _size([message])
        if after >= before:
            self._note_failure(_NOT_SHORTER, "The summary is not shorter than what it was to replace.")
            return None
        self._capture.events.append(
            event.context_compacted(
                self._clock(), messages=len(older) - len(shown), characters_before=before, characters_after=after
            )
        )
        return [message, *shown]

    def _note_failure(self, code: str, message: str) -> None:
        self._capture.events.append(event.context_compaction_failed(self._clock(), code=code, message=message))


def has_moved(events: Iterable[TurnEvent]) -> bool:
    """Tell whether the conversation went from one node to another."""
    return any(
        happened.type == NODE_TRANSITION and happened.payload["previous_node_id"] is not None for happened in events
    )


def _shows_something(message: Message) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return message.get("role") == "user" and any(
        isinstance(block, dict) and block.get("type") != "text" for block in blocks
    )


def _size(messages: Sequence[Message]) -> int:
    return len(json.dumps(messages, ensure_ascii=False))
