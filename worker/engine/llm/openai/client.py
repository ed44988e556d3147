"""The client of OpenAI's SDK, for OpenAI and for all that speak one of its protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import openai
from pipecat.utils.http import connection_limits

from worker.engine.failures import LLMNotConfigured
from worker.engine.llm.errors import SDKErrors
from worker.engine.llm.provider import CONNECT_SECONDS, KEEPALIVE_SECONDS, MAX_CONNECTIONS, address, guarded
from worker.workflow.llm_providers import LLM_PROVIDERS

if TYPE_CHECKING:
    from worker.engine.request import ResolvedModel

ERRORS: Final = SDKErrors(
    status=openai.APIStatusError,
    connection=openai.APIConnectionError,
    api=openai.APIError,
)
"""The exceptions of the SDK."""


def open_client(model: ResolvedModel) -> openai.AsyncOpenAI:
    """Create a client. Key and address are always given, so that it looks for neither in the environment.

    Raises:
        LLMNotConfigured: There is no address, or no key although the address is the provider's own.
    """
    base_url = address(model)
    if base_url is None:
        raise LLMNotConfigured(
            f"The model configuration has no base URL for {model.provider}. Name it: turn-worker config set --base-url."
        )
    if model.api_key is None and model.base_url is None:
        raise LLMNotConfigured(
            f"The model configuration has no API key for {model.provider}. Store one: turn-worker config set."
        )
    api_key = model.api_key.get_secret_value() if model.api_key else "none"
    key_header = LLM_PROVIDERS[model.provider].key_header
    client = openai.AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        default_headers={key_header: api_key} if key_header else None,
        max_retries=0,  # retries are the executor's, which knows the turn's deadline
        timeout=openai.Timeout(None, connect=CONNECT_SECONDS),  # silence is bounded by LLMCalls
        http_client=openai.DefaultAioHttpClient(
            limits=connection_limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS),
            follow_redirects=False,  # a redirect would take the key along
            **guarded(model),
        ),
    )
    # What the environment says of these belongs to the operator's key, which this need not be.
    client.organization = client.project = None
    client._custom_headers = {key_header: api_key} if key_header else {}  # noqa: SLF001 -- there is no other way
    return client
