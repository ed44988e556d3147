"""What an SDK's exception means: which failure it is, whether it may pass, and what an operator can do about it.

Sources: https://platform.claude.com/docs/en/api/errors, https://platform.openai.com/docs/guides/error-codes,
https://ai.google.dev/gemini-api/docs/troubleshooting and
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from worker.engine import failures
from worker.engine.failures import TransientFailure, TurnFailed, TurnInterrupted
from worker.engine.web.errors import AddressRefused
from worker.telemetry.masking import MASK, mask_secrets

if TYPE_CHECKING:
    from worker.engine.request import ResolvedModel

_LONGEST_QUOTE: Final = 500
"""Characters of a provider's message that are passed on: some answer with a whole web page."""

_OVERLOADED: Final = 529

_Kind = type[failures.PermanentFailure] | type[failures.TransientFailure]

_BY_REASON: Final[Mapping[str, _Kind]] = {
    # Anthropic's error types
    "authentication_error": failures.LLMAuthenticationFailed,
    "billing_error": failures.LLMQuotaExhausted,
    "permission_error": failures.LLMPermissionDenied,
    "not_found_error": failures.LLMNotFound,
    "request_too_large": failures.LLMRequestTooLarge,
    "rate_limit_error": failures.LLMRateLimited,
    "overloaded_error": failures.LLMOverloaded,
    "api_error": failures.LLMUnavailable,
    "timeout_error": failures.LLMTimeout,
    # OpenAI's codes and types
    "invalid_api_key": failures.LLMAuthenticationFailed,
    "insufficient_quota": failures.LLMQuotaExhausted,
    "billing_hard_limit_reached": failures.LLMQuotaExhausted,
    "billing_not_active": failures.LLMQuotaExhausted,
    "model_not_found": failures.LLMNotFound,
    "context_length_exceeded": failures.LLMRequestTooLarge,
    "rate_limit_exceeded": failures.LLMRateLimited,
    "server_error": failures.LLMUnavailable,
    # Google's statuses, and the reason beside an INVALID_ARGUMENT that is no fault of the request
    "API_KEY_INVALID": failures.LLMAuthenticationFailed,
    "UNAUTHENTICATED": failures.LLMAuthenticationFailed,
    "FAILED_PRECONDITION": failures.LLMQuotaExhausted,  # "enable billing on your project"
    "PERMISSION_DENIED": failures.LLMPermissionDenied,
    "NOT_FOUND": failures.LLMNotFound,
    "RESOURCE_EXHAUSTED": failures.LLMRateLimited,
    "UNAVAILABLE": failures.LLMOverloaded,
    "INTERNAL": failures.LLMUnavailable,
    "DEADLINE_EXCEEDED": failures.LLMTimeout,
    # Bedrock's exceptions, and AWS's of every service
    "ExpiredTokenException": failures.LLMAuthenticationFailed,
    "MissingAuthenticationTokenException": failures.LLMAuthenticationFailed,
    "UnrecognizedClientException": failures.LLMAuthenticationFailed,
    "AccessDeniedException": failures.LLMPermissionDenied,
    "ResourceNotFoundException": failures.LLMNotFound,
    "ServiceQuotaExceededException": failures.LLMQuotaExhausted,
    "ValidationException": failures.LLMRequestInvalid,
    "ThrottlingException": failures.LLMRateLimited,
    "ModelNotReadyException": failures.LLMOverloaded,
    "ServiceUnavailableException": failures.LLMOverloaded,
    "InternalServerException": failures.LLMUnavailable,
    "ModelErrorException": failures.LLMUnavailable,
    "ModelStreamErrorException": failures.LLMUnavailable,
    "ModelTimeoutException": failures.LLMTimeout,
}
"""Failures by the machine-readable reason in the body, which is more exact than the status and is all that an error in
the middle of a stream has."""

_BY_WORDS: Final[tuple[tuple[str, _Kind], ...]] = (
    ("credit balance is too low", failures.LLMQuotaExhausted),
    ("prompt is too long", failures.LLMRequestTooLarge),
    ("exceed context limit", failures.LLMRequestTooLarge),
    ("exceeds the maximum number of tokens", failures.LLMRequestTooLarge),
    ("input is too long for requested model", failures.LLMRequestTooLarge),
    ("model identifier is invalid", failures.LLMNotFound),
    ("make sure your api key is valid", failures.LLMAuthenticationFailed),
)
"""What Anthropic says with the reason `invalid_request_error`, Google with `INVALID_ARGUMENT`, and Bedrock with
`ValidationException` or `AccessDeniedException`, although it means something more particular."""

_BY_STATUS: Final[Mapping[int, _Kind]] = {
    HTTPStatus.UNAUTHORIZED: failures.LLMAuthenticationFailed,
    HTTPStatus.PAYMENT_REQUIRED: failures.LLMQuotaExhausted,
    HTTPStatus.FORBIDDEN: failures.LLMPermissionDenied,
    HTTPStatus.NOT_FOUND: failures.LLMNotFound,
    HTTPStatus.REQUEST_TIMEOUT: failures.LLMTimeout,
    HTTPStatus.CONFLICT: failures.LLMUnavailable,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: failures.LLMRequestTooLarge,
    HTTPStatus.FAILED_DEPENDENCY: failures.LLMUnavailable,  # the model's, says Bedrock
    HTTPStatus.TOO_MANY_REQUESTS: failures.LLMRateLimited,
    HTTPStatus.SERVICE_UNAVAILABLE: failures.LLMOverloaded,
    _OVERLOADED: failures.LLMOverloaded,
}

_ADVICE: Final[Mapping[_Kind, str]] = {
    failures.LLMAuthenticationFailed: "Check the API key of the model configuration.",
    failures.LLMPermissionDenied: "Check what the API key may do, and whether its account may use this model.",
    failures.LLMNotFound: "Check the model's name and the base URL of the model configuration.",
    failures.LLMRequestInvalid: "Check the model configuration and the definition's tools; the request cannot succeed as it is.",
    failures.LLMRequestTooLarge: "The conversation is too long for this model; start a new session or choose another model.",
    failures.LLMQuotaExhausted: "Check the plan and the billing of the account that the API key belongs to.",
}


@dataclass(frozen=True, slots=True)
class SDKErrors:
    """The exceptions of one SDK. They have the same attributes, at least as we hand them on, but no common class.

    Attributes:
        status: The API answered with an error status.
        connection: It could not be reached, or the connection broke.
        api: Any error of the API, among them one in the middle of a stream.
    """

    status: type[Exception]
    connection: type[Exception]
    api: type[Exception]


def classify(error: Exception, sdk: SDKErrors, model: ResolvedModel, *, replying: bool) -> TurnFailed:
    """Find out what the exception of a call means.

    Args:
        error: What the SDK, or the HTTP client under it, raised.
        sdk: The SDK's exceptions.
        model: Whom was called; names the provider in the message, and its key is hidden.
        replying: Whether the reply had begun.
    """
    who = f"{model.provider} ({model.model})"
    if isinstance(error, sdk.status):
        return _status_failure(error, who, model)
    if isinstance(error, sdk.connection) and (refused := _refusal(error)):
        return failures.LLMAddressRefused(f"{who} cannot be called at its base URL. {refused}")
    if isinstance(error, sdk.connection) and not replying:
        # Timeouts among them: nothing but the making of a connection has one, and other errors pass for it in aiohttp.
        cause = _quote(_root_cause(error), model)
        return failures.LLMConnectionFailed(f"{who} could not be reached: {cause}. Check the base URL and the network.")
    if isinstance(error, sdk.api) and not isinstance(error, sdk.connection):
        return _body_failure(error, who, model)
    if isinstance(error, (sdk.connection, ValueError)) or _from_http_client(error):  # ValueError: an event is no JSON
        return failures.LLMStreamBroken(f"{who} broke off its reply: {_quote(_root_cause(error), model)}. Try again.")
    return TurnInterrupted(
        f"The call to {who} failed unexpectedly: {_quote(repr(error), model)}. This is a defect: report it."
    )


def _status_failure(error: Any, who: str, model: ResolvedModel) -> TurnFailed:
    reason, message = _reason_and_message(error)
    status = error.status_code
    kind = _kind(reason, message)
    if kind in {None, failures.LLMUnavailable}:
        kind = _kind_of_status(status)
    answered = f"answered {status}" if status >= HTTPStatus.BAD_REQUEST else "broke off its reply"
    request_id = f" (request {error.request_id})" if error.request_id else ""
    text = f"{who} {answered} {reason or ''}".rstrip() + f": {_quote(message, model)}{request_id}."
    return _failure(kind, text, _retry_after_seconds(error.response.headers))


def _body_failure(error: Any, who: str, model: ResolvedModel) -> TurnFailed:
    reason, message = _reason_and_message(error)
    kind = _kind(reason, message) or failures.LLMStreamBroken
    return _failure(kind, f"{who} broke off its reply: {_quote(message, model)}.", None)


def _failure(kind: _Kind, text: str, retry_after_seconds: float | None) -> TurnFailed:
    if issubclass(kind, TransientFailure):
        return kind(text, retry_after_seconds)
    return kind(f"{text} {_ADVICE[kind]}")


def _kind(reason: str | None, message: str) -> _Kind | None:
    lowered = message.lower()
    for words, kind in _BY_WORDS:
        if words in lowered:
            return kind
    return _BY_REASON.get(reason or "")


def _kind_of_status(status: int) -> _Kind:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # Below 400 stands an error in the middle of a reply that had begun well.
    transient = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.MULTIPLE_CHOICES
    return failures.LLMUnavailable if transient else failures.LLMRequestInvalid


def _reason_and_message(error: Any) -> tuple[str | None, str]:
    """Read the body: Anthropic's `{"error": {"type", "message"}}`, or OpenAI's, which its SDK has unwrapped already."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    details = inner if isinstance(inner, Mapping) else body
    reasons = [str(details[key]) for key in ("code", "type") if details.get(key)]
    reason = next((known for known in reasons if known in _BY_REASON), None) or (reasons[-1] if reasons else None)
    return reason, str(details.get("message") or error.message)


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after-ms` (OpenAI) or `retry-after`, which holds seconds or a date."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value or "").timestamp() - time.time())
    except ValueError:
        return None


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _refusal(error: BaseException | None) -> AddressRefused | None:
    while error is not None and not isinstance(error, AddressRefused):
        error = error.__cause__
    return error


def _quote(text: str, model: ResolvedModel) -> str:
    if model.api_key is not None and (key := model.api_key.get_secret_value()):
        text = text.replace(key, MASK)
    text = mask_secrets(" ".join(text.split())).rstrip(".")
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]} ..."


def _from_http_client(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in {"aiohttp", "httpcore2", "httpx", "httpx2"} or isinstance(
        error, OSError
    )
