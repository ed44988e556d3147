"""Questions to the model beside the conversation: what was said so far, in one text, and one answer.

They go to the same model over the same client as the conversation, and are numbered, watched and counted like its calls.
What becomes of one is its asker's business: neither its answer nor its failure touches the conversation.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipecat.processors.aggregators.llm_context import LLMContext

from worker.engine.failures import LLMReplyEmpty, LLMTimeout, TransientFailure
from worker.engine.llm.calls import asking_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipecat.services.llm_service import LLMService

    from worker.engine.outstanding import Outstanding

SHARE_OF_TIME: Final = 0.5
"""How much of the time that the turn has left one question may take, so that a slow answer costs its asker something but
never the turn its reply."""

_TRIES: Final = 2
_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 2.0
"""A provider that asks to wait for longer than this is not asked again."""


@dataclass(frozen=True, slots=True)
class SideQuestion:
    """One question.

    Attributes:
        purpose: What it is asked for, as the turn's ledger of what is outstanding names it.
        instructions: The system prompt.
        text: What the question is about.
        kept_as: What the ledger of usage calls its purpose.
    """

    purpose: str
    instructions: str
    text: str
    kept_as: str


class SideQuestions:
    """Asks the model of one turn.

    Args:
        service: Creates the provider's service for a system prompt.
        outstanding: The turn's ledger.
        seconds_left: How much time the turn has left.
    """

    def __init__(
        self,
        service: Callable[[str], LLMService[Any]],
        outstanding: Outstanding,
        seconds_left: Callable[[], float],
    ) -> None:
        self._service = service
        self._outstanding = outstanding
        self._seconds_left = seconds_left

    async def ask(self, question: SideQuestion) -> str:
        """Ask, and once more if the provider could not answer at the moment.

        Raises:
            TurnFailed: There is no answer, and why.
        """
        allowed = self._seconds_left() * SHARE_OF_TIME
        limit = asyncio.timeout(allowed)
        self._outstanding.begin(question.purpose)
        try:
            async with limit:
                with asking_for(question.kept_as):
                    return await self._answer(question)
        except TimeoutError:
            if not limit.expired():
                raise
            raise LLMTimeout(
                f"The answer took longer than {allowed:.3g} s, half of the time that the turn had left."
            ) from None
        finally:
            self._outstanding.end(question.purpose)

    async def _answer(self, question: SideQuestion) -> str:
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._answer_once(question)
            except TransientFailure as failure:
                pause = failure.retry_after_seconds or _PAUSE_SECONDS
                if not tries_left or pause > _LONGEST_PAUSE_SECONDS:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _answer_once(self, question: SideQuestion) -> str:
        service = self._service(question.instructions)
        answer = await service.run_inference(LLMContext([{"role": "user", "content": question.text}]))
        if not answer or not answer.strip():
            raise LLMReplyEmpty("The model answered with nothing. Try again.")
        return answer.strip()
