"""One model for the length of a conversation with it: its provider and client, and the calls that are made of it."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.engine.llm.calls import LLMCalls
from worker.engine.llm.errors import classify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pipecat.services.llm_service import LLMService

    from worker.engine.failures import TurnFailed
    from worker.engine.llm.clients import ProviderClients
    from worker.engine.llm.provider import Provider
    from worker.engine.request import LLMCall, ResolvedModel


@dataclass(frozen=True, slots=True)
class BorrowedModel:
    """A model that may be called now.

    Attributes:
        calls: Everything that is asked of it.
    """

    model: ResolvedModel
    provider: Provider
    client: Any
    calls: LLMCalls

    def conversing(self, system_prompt: str) -> LLMService[Any]:
        """Pipecat's service for the conversation itself, whose prompt the provider is asked to keep.

        Raises:
            InvalidModelParameters: The parameters name what is not theirs to say.
        """
        return self.provider.service(self.client, self.model, self.calls, system_prompt)

    def asking(self, system_prompt: str) -> LLMService[Any]:
        """Pipecat's service for one question on its side.

        Raises:
            InvalidModelParameters: The parameters name what is not theirs to say.
        """
        return self.provider.service(self.client, self.model, self.calls, system_prompt, cache_prompt=False)


@asynccontextmanager
async def borrow(
    clients: ProviderClients,
    model: ResolvedModel,
    *,
    limit: int,
    on_end: Callable[[LLMCall], None],
    on_failure: Callable[[TurnFailed], None],
    made: int = 0,
    numbers: Iterator[int] | None = None,
) -> AsyncIterator[BorrowedModel]:
    """Borrow a model from those who have its client; what is still being asked of it at the end is stopped.

    The further arguments are those of `LLMCalls`.

    Raises:
        UnknownLLMProvider: There is no such provider.
        LLMNotConfigured: It needs a key and has none.
    """
    async with clients.lend(model) as (provider, client):
        calls = LLMCalls(
            provider=model.provider,
            processor=provider.processor,
            model=model.model,
            limit=limit,
            silence_seconds=model.timeout_seconds,
            classify=lambda error, replying: classify(error, provider.errors, model, replying=replying),
            on_end=on_end,
            on_failure=on_failure,
            made=made,
            numbers=numbers,
            gate=clients.gate(model),
        )
        async with aclosing(calls):
            yield BorrowedModel(model, provider, client, calls)
