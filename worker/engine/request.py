"""What a turn needs to run, gathered by the caller: everything is here or behind one of the protocols, nothing is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from worker.engine.failures import TransientFailure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from pydantic import JsonValue, SecretStr

    from worker.conversation.checkpoint import Checkpoint
    from worker.conversation.usage import LLMUsage
    from worker.conversation.user_message import UserMessage
    from worker.engine.failures import TurnFailed
    from worker.workflow.graph import WorkflowGraph
    from worker.workflow.web_address import AllowedHosts


MAX_LLM_CALLS: Final = 25
"""How many LLM calls a turn may make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """The effective model configuration with its secret looked up.

    Attributes:
        provider: Name of the provider: `anthropic`, `openai`.
        model: The provider's name of the model.
        api_key: The key itself; it shows in no repr.
        base_url: Root of the provider's API; None for the provider's own.
        max_tokens: Most tokens of one reply; None for the provider's default.
        temperature: Sampling temperature; None for the provider's default.
        effort: How much it may think before it answers; None for the provider's default.
        prompt_caching: Whether the provider is asked to keep the prompt.
        parameters: Further parameters of the provider's request, passed on as they are.
        timeout_seconds: Longest silence of one LLM call, before its first word or between two.
        allowed_hosts: For a base URL that a tenant gave: the hosts it may lead to besides public addresses. None for an
            operator's, which may lead anywhere.
    """

    provider: str
    model: str
    api_key: SecretStr | None = None
    base_url: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    effort: str | None = None
    prompt_caching: bool = True
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    timeout_seconds: float = 45.0
    allowed_hosts: AllowedHosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """One attempt at one turn.

    Attributes:
        organization_id: Whose turn it is.
        session_id: The conversation it belongs to.
        turn_id: The turn; becomes the new checkpoint's `anchor_turn_id`.
        attempt: Which attempt this is, from 1.
        graph: The session's pinned definition, indexed. It never changes, so build it once per definition and share it.
        checkpoint: What the conversation is so far. It is not changed.
        user_messages: What the user said, oldest first. None at all means the opening turn, or "go on".
        initial_context: Values given when the session was created.
        model: The language model; None when none is configured.
        fallback_model: What is asked when that one fails for good or is overloaded; None for nothing.
        last_attempt: Whether a failure that may pass would fail the turn all the same: then the fallback is asked too.
        time_limit_seconds: Limit of the whole attempt.
        max_llm_calls: How many LLM calls the turn may make over all attempts, as its journal counts them: a bound on models
            that call tools without an end.
        trace_url: Where the session's trace can be looked at; told with what the conversation has learned, and not stored.
        compact_context: Whether the older context is summarised after a transition.
        retry_root_id: The first of the turns that retry one another; None when the turn retries no other.
    """

    organization_id: UUID
    session_id: UUID
    turn_id: UUID
    attempt: int
    graph: WorkflowGraph
    checkpoint: Checkpoint
    user_messages: tuple[UserMessage, ...] = ()
    initial_context: Mapping[str, JsonValue] = field(default_factory=dict)
    model: ResolvedModel | None = None
    fallback_model: ResolvedModel | None = None
    last_attempt: bool = False
    time_limit_seconds: float = 60.0
    max_llm_calls: int = MAX_LLM_CALLS
    trace_url: str | None = None
    compact_context: bool = False
    retry_root_id: UUID | None = None

    @property
    def idempotency_root(self) -> UUID:
        """What the idempotency keys of its tool calls derive from."""
        return self.retry_root_id or self.turn_id

    def fallback_after(self, failure: TurnFailed) -> ResolvedModel | None:
        """The model to ask now that one has failed; None when there is none, or it is not its turn."""
        helps = failure.another_model_may_help or (self.last_attempt and isinstance(failure, TransientFailure))
        return self.fallback_model if helps else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMCall:
    """One LLM call that the provider answered, however it ended.

    Attributes:
        number: Its place among the calls of the attempt: 1, 2, 3 ... A call that was refused leaves a gap.
        processor: The pipecat service that made it.
        model: The configured model.
        usage: What it used. Of a reply that was cut off, the completion tokens are estimated from the text that arrived.
        turn_goes_on: Whether the turn goes on after it, with tools or whatever a side question was asked for.
        purpose: What it was for: the conversation itself, or a question on its side.
    """

    number: int
    processor: str
    model: str
    usage: LLMUsage
    turn_goes_on: bool = False
    purpose: str = "conversation"


class UsageLedger(Protocol):
    """Where LLM calls are written down as they end, also in attempts that fail or are cancelled."""

    def record(self, call: LLMCall) -> None:
        """Take note of a call. Must return at once and not raise."""
        ...
