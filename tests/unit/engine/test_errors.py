"""What the exceptions of an SDK mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from pydantic import SecretStr

from worker.engine import failures
from worker.engine.llm.anthropic import AnthropicProvider
from worker.engine.llm.errors import classify
from worker.engine.llm.openai.service import OpenAIProvider
from worker.engine.request import ResolvedModel

KEY = "hush-hush-0123456789"
MODEL = ResolvedModel(provider="anthropic", model="claude-sonnet-5", api_key=SecretStr(KEY))
REQUEST = httpx2.Request("POST", "https://api.example/v1")


def failure(
    status: int,
    error: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    message: str = "",
    provider: str = "anthropic",
) -> failures.TurnFailed:
    response = httpx2.Response(status, request=REQUEST, headers=headers)
    if provider == "openai":
        raised: Exception = openai.APIStatusError(message, response=response, body=error)
        return classify(raised, OpenAIProvider.errors, MODEL, replying=False)
    raised = anthropic.APIStatusError(message, response=response, body={"error": error} if error else message)
    return classify(raised, AnthropicProvider.errors, MODEL, replying=False)


@pytest.mark.parametrize(
    ("error_type", "expected"),
    [
        ("authentication_error", failures.LLMAuthenticationFailed),
        ("billing_error", failures.LLMQuotaExhausted),
        ("permission_error", failures.LLMPermissionDenied),
        ("not_found_error", failures.LLMNotFound),
        ("invalid_request_error", failures.LLMUnavailable),
        ("request_too_large", failures.LLMRequestTooLarge),
        ("rate_limit_error", failures.LLMRateLimited),
        ("overloaded_error", failures.LLMOverloaded),
        ("api_error", failures.LLMUnavailable),
        ("timeout_error", failures.LLMTimeout),
    ],
)
def test_an_error_in_a_stream_that_began_with_200_is_known_by_its_type(
    error_type: str, expected: type[failures.TurnFailed]
) -> None:
    assert type(failure(200, {"type": error_type, "message": "Oh."})) is expected


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (401, {"code": "invalid_api_key", "type": "invalid_request_error"}, failures.LLMAuthenticationFailed),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, failures.LLMQuotaExhausted),
        (429, {"code": "rate_limit_exceeded", "type": "tokens"}, failures.LLMRateLimited),
        (404, {"code": "model_not_found", "type": "invalid_request_error"}, failures.LLMNotFound),
        (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}, failures.LLMRequestTooLarge),
        (400, {"code": None, "type": "invalid_request_error"}, failures.LLMRequestInvalid),
        (503, {"code": None, "type": "server_error"}, failures.LLMOverloaded),
        (500, {"code": None, "type": "server_error"}, failures.LLMUnavailable),
        (418, None, failures.LLMRequestInvalid),
        (307, None, failures.LLMRequestInvalid),
        (408, None, failures.LLMTimeout),
        (409, None, failures.LLMUnavailable),
    ],
)
def test_openais_codes_count_before_the_status(
    status: int, error: dict[str, Any] | None, expected: type[failures.TurnFailed]
) -> None:
    assert type(failure(status, error, message="Oh.", provider="openai")) is expected


def test_a_prompt_that_is_too_long_is_not_just_any_invalid_request() -> None:
    message = "prompt is too long: 210000 tokens > 200000 maximum"

    assert failure(400, {"type": "invalid_request_error", "message": message}).code == "llm_request_too_large"


def test_the_message_names_who_said_what_to_which_request_and_what_to_do() -> None:
    failed = failure(401, {"type": "authentication_error", "message": "invalid x-api-key"}, {"request-id": "req_1"})

    assert str(failed) == (
        "anthropic (claude-sonnet-5) answered 401 authentication_error: invalid x-api-key (request req_1). "
        "Check the API key of the model configuration."
    )


def test_the_key_is_hidden_wherever_it_is_quoted_and_so_are_keys_of_others() -> None:
    failed = failure(400, {"type": "invalid_request_error", "message": f"{KEY} and sk-ant-api03-0123456789"})

    assert KEY not in str(failed)
    assert "0123456789" not in str(failed)


def test_a_whole_web_page_is_quoted_in_part() -> None:
    failed = failure(502, message="<html>\n" + "x " * 5000)

    assert isinstance(failed, failures.LLMUnavailable)
    assert len(str(failed)) < 700


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ],
)
def test_retry_after_is_read_in_seconds(headers: dict[str, str], seconds: float | None) -> None:
    failed = failure(429, headers=headers)

    assert isinstance(failed, failures.TransientFailure)
    assert failed.retry_after_seconds == seconds


def test_retry_after_may_be_a_date() -> None:
    failed = failure(503, headers={"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=90))})

    assert isinstance(failed, failures.TransientFailure)
    assert failed.retry_after_seconds == pytest.approx(90, abs=5)


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadError("gone"),
        ConnectionResetError("gone"),
        ValueError("no JSON"),
        openai.APIConnectionError(request=REQUEST),
    ],
)
def test_whatever_cuts_a_reply_off_is_a_broken_stream(error: Exception) -> None:
    assert type(classify(error, OpenAIProvider.errors, MODEL, replying=True)) is failures.LLMStreamBroken


def test_a_connection_that_cannot_be_made_says_why() -> None:
    error = anthropic.APITimeoutError(request=REQUEST)
    error.__cause__ = httpx2.ConnectTimeout("Cannot connect to host api.example:443")

    failed = classify(error, AnthropicProvider.errors, MODEL, replying=False)

    assert type(failed) is failures.LLMConnectionFailed
    assert "Cannot connect to host api.example:443" in str(failed)


def test_an_error_in_openais_stream_has_no_status() -> None:
    error = openai.APIError("Overloaded", REQUEST, body={"code": None, "type": "server_error", "message": "Overloaded"})

    assert type(classify(error, OpenAIProvider.errors, MODEL, replying=True)) is failures.LLMUnavailable


def test_what_no_provider_would_raise_is_a_defect() -> None:
    failed = classify(AttributeError("no such thing"), AnthropicProvider.errors, MODEL, replying=True)

    assert type(failed) is failures.TurnInterrupted
    assert not failed.retryable
