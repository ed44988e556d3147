"""How a turn fails. Whether to try again is in the type: a `TransientFailure` may pass, a `PermanentFailure` will not.

Every failure carries what the attempt has to show for itself: the events so far and what it used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from worker.conversation.usage import Usage
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.conversation.event import TurnEvent


class TurnFailed(TurnWorkerError):
    """An attempt at a turn came to nothing; the conversation is as it was before.

    Attributes:
        events: What happened before it failed, closed by its `execution_error`.
        usage: What the attempt used all the same: it is paid for.
        another_model_may_help: Whether the same turn may succeed at once with another model.
    """

    another_model_may_help: ClassVar[bool] = False

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.events: tuple[TurnEvent, ...] = ()
        self.usage = Usage()


class PermanentFailure(TurnFailed):
    """Trying again without a change would fail again."""


class TransientFailure(TurnFailed):
    """The provider could not answer now; the same request may succeed later.

    Attributes:
        retry_after_seconds: How long the provider asks to wait, if it does.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return str(self.args[0])


class TurnTimeout(TurnFailed):
    """The attempt reached its time limit. What it waited for is in the message.

    Neither permanent nor transient: its tools may have run, so it is not for a machine to start it over.
    """

    code: ClassVar[str] = "turn_timeout"
    retryable: ClassVar[bool] = True

    def __init__(self, limit_seconds: float, outstanding: Iterable[str]) -> None:
        super().__init__(limit_seconds, tuple(outstanding))

    def __str__(self) -> str:
        limit_seconds, outstanding = self.args
        waited_for = ", ".join(outstanding) or "nothing that answers: the worker's event loop was too busy"
        return f"The turn reached its time limit of {limit_seconds:g} s while waiting for: {waited_for}."


class TurnInterrupted(TurnFailed):
    """The pipeline ended or broke although work was outstanding: a defect, or a worker that is being torn down."""

    code: ClassVar[str] = "turn_interrupted"


class BlankUserMessage(PermanentFailure):
    """A user message holds nothing but white space."""

    code: ClassVar[str] = "blank_user_message"


class BrokenContext(PermanentFailure):
    """The turn would have left a tool call without a result, which every provider refuses from then on."""

    code: ClassVar[str] = "broken_context"


class TooManyLLMCalls(PermanentFailure):
    """The model called tools without an end."""

    code: ClassVar[str] = "too_many_llm_calls"


class LLMNotConfigured(PermanentFailure):
    """The turn needs a language model and none, or none with a key, is configured."""

    code: ClassVar[str] = "llm_not_configured"
    another_model_may_help: ClassVar[bool] = True


class UnknownLLMProvider(PermanentFailure):
    """The configured provider is none that this release knows."""

    code: ClassVar[str] = "llm_provider_unknown"
    another_model_may_help: ClassVar[bool] = True


class InvalidModelParameters(PermanentFailure):
    """The configured `parameters` name what is the engine's to say."""

    code: ClassVar[str] = "llm_invalid_parameters"
    another_model_may_help: ClassVar[bool] = True


class LLMAuthenticationFailed(PermanentFailure):
    """The provider does not accept the key."""

    code: ClassVar[str] = "llm_authentication_failed"
    another_model_may_help: ClassVar[bool] = True


class LLMPermissionDenied(PermanentFailure):
    """The key is accepted but may not do this."""

    code: ClassVar[str] = "llm_permission_denied"
    another_model_may_help: ClassVar[bool] = True


class LLMNotFound(PermanentFailure):
    """The provider has no such model, or the base URL leads to no such API."""

    code: ClassVar[str] = "llm_not_found"
    another_model_may_help: ClassVar[bool] = True


class LLMRequestInvalid(PermanentFailure):
    """The provider refuses the request as it is."""

    code: ClassVar[str] = "llm_invalid_request"
    another_model_may_help: ClassVar[bool] = True


class LLMRequestTooLarge(PermanentFailure):
    """The conversation has outgrown what the provider or the model takes."""

    code: ClassVar[str] = "llm_request_too_large"
    another_model_may_help: ClassVar[bool] = True


class LLMQuotaExhausted(PermanentFailure):
    """The account at the provider has nothing left to spend."""

    code: ClassVar[str] = "llm_quota_exhausted"
    another_model_may_help: ClassVar[bool] = True


class LLMReplyCutShort(PermanentFailure):
    """The answer to a side question is not whole: the model refused, or ran into the limit of its tokens."""

    code: ClassVar[str] = "llm_reply_cut_short"


class LLMAddressRefused(PermanentFailure):
    """The base URL leads to an address that is not public, and the organization does not allow its host."""

    code: ClassVar[str] = "llm_address_refused"


class LLMRateLimited(TransientFailure):
    """The provider takes no more requests at the moment."""

    code: ClassVar[str] = "llm_rate_limited"


class LLMOverloaded(TransientFailure):
    """The provider is overloaded."""

    code: ClassVar[str] = "llm_overloaded"
    another_model_may_help: ClassVar[bool] = True


class LLMUnavailable(TransientFailure):
    """The provider failed on its side."""

    code: ClassVar[str] = "llm_unavailable"


class LLMConnectionFailed(TransientFailure):
    """The provider could not be reached."""

    code: ClassVar[str] = "llm_connection_failed"


class LLMTimeout(TransientFailure):
    """The provider was silent for too long."""

    code: ClassVar[str] = "llm_timeout"


class LLMStreamBroken(TransientFailure):
    """The reply broke off in the middle."""

    code: ClassVar[str] = "llm_stream_broken"


class LLMReplyEmpty(TransientFailure):
    """The reply ended in good order but held nothing."""

    code: ClassVar[str] = "llm_empty_reply"
