"""Learns a node's variables from the conversation: asked of the model when the node is left and when the session ends.

What comes of it goes into the gathered context, each value under its name and all of them under `extracted_variables`,
where later prompts, tools and whoever reads the session find them. When it fails, the conversation goes on without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from worker.conversation import event
from worker.engine.extracted_values import ExtractedValues, Unreadable, read_values
from worker.engine.failures import TurnFailed
from worker.engine.normalized_history import normalized_history
from worker.engine.prompts import EXTRACTION_INSTRUCTIONS
from worker.engine.side_question import SideQuestion
from worker.telemetry import names
from worker.workflow.definition import RESERVED_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from worker.conversation.history import Message
    from worker.engine.capture import Capture
    from worker.workflow.definition import ConversationNode

log = structlog.get_logger(__name__)

EXTRACTED_VARIABLES: Final = "extracted_variables"
"""Where the gathered context keeps all that was extracted, by name."""

_UNREADABLE: Final = "extraction_unreadable"
_DEFECT: Final = "extraction_defect"


class Extraction:
    """Extracts variables for one turn.

    Args:
        ask: Asks the model.
        render: Fills in a template with what is known at that moment.
        capture: Where the values and the events go.
        clock: The current time, with its zone.
    """

    def __init__(
        self,
        ask: Callable[[SideQuestion], Awaitable[str]],
        render: Callable[[str], str],
        capture: Capture,
        clock: Callable[[], datetime],
    ) -> None:
        self._ask_model = ask
        self._render = render
        self._capture = capture
        self._clock = clock

    async def run(self, node: ConversationNode, messages: Iterable[Message]) -> None:
        """Extract what a node wants to know, if it wants anything, from what was said so far. Never fails."""
        if not (node.data.extraction_enabled and node.data.extraction_variables):
            return
        history = normalized_history(messages)
        if not history:
            return
        try:
            values = await self._ask(node, history)
        except TurnFailed as failure:
            self._note_failure(node, failure.code, str(failure))
        except Unreadable as error:
            self._note_failure(node, _UNREADABLE, str(error))
        except Exception:
            log.exception(names.SIDE_QUESTION_DEFECT)
            self._note_failure(node, _DEFECT, "A defect of this program; the worker's log has the traceback.")
        else:
            self._learn(node, values)

    async def _ask(self, node: ConversationNode, history: str) -> ExtractedValues:
        variables = node.data.extraction_variables
        parts = [
            self._render(node.data.extraction_prompt).strip(),
            "# Variables",
            "\n".join(
                f"- {variable.name.strip()} ({variable.type}): {self._render(variable.prompt).strip()}".rstrip(": ")
                for variable in variables
            ),
            "# Conversation",
            history,
        ]
        answer = await self._ask_model(
            SideQuestion(
                purpose=f"the extraction of variables on {node.name}",
                instructions=EXTRACTION_INSTRUCTIONS,
                text="\n\n".join(part for part in parts if part),
                kept_as="extraction",
            )
        )
        return read_values(answer, variables)

    def _learn(self, node: ConversationNode, values: ExtractedValues) -> None:
        if values.known:
            before = self._capture.gathered_context.get(EXTRACTED_VARIABLES)
            self._capture.learn(EXTRACTED_VARIABLES, {**(before if isinstance(before, dict) else {}), **values.known})
        for name, value in values.known.items():
            if name not in RESERVED_VARIABLES:  # validation refuses them; a definition stored before it did still runs
                self._capture.learn(name, value)
        self._capture.events.append(
            event.variables_extracted(
                self._clock(),
                node=node,
                variables=values.known,
                unknown=values.unknown,
                rejected=[rejected._asdict() for rejected in values.rejected],
            )
        )

    def _note_failure(self, node: ConversationNode, code: str, message: str) -> None:
        self._capture.events.append(
            event.variable_extraction_failed(self._clock(), node=node, code=code, message=message)
        )
