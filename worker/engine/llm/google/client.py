"""The client of Google's SDK, over an HTTP client of ours."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import httpx2
from google import genai
from google.genai.types import HttpOptions
from pipecat.utils.http import connection_limits

from worker.engine.llm.provider import CONNECT_SECONDS, KEEPALIVE_SECONDS, MAX_CONNECTIONS, guarded

if TYPE_CHECKING:
    from ssl import SSLContext

    from worker.engine.request import ResolvedModel


class GoogleClient:
    """The SDK's client together with the HTTP client that it was given, and so does not close."""

    def __init__(self, sdk: genai.Client, http: httpx2.AsyncClient) -> None:
        self.models = sdk.aio.models
        self._sdk = sdk
        self._http = http

    async def close(self) -> None:
        """Close both."""
        self._sdk.close()
        await self._http.aclose()


def open_client(
    model: ResolvedModel, *, base_url: str | None, auth: httpx2.Auth | None = None, **whose: Any
) -> GoogleClient:
    """Create a client.

    Args:
        model: The model it is for, which says where requests may go.
        base_url: Root of the API.
        auth: Signs requests in, where a key in a header does not.
        whose: Which API it is and whose quota it uses, in the words of `genai.Client`. All that is given is looked for
            nowhere else, such as in the environment.
    """
    http = httpx2.AsyncClient(
        auth=auth,
        limits=connection_limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS),
        follow_redirects=False,  # a redirect would take the key along
        event_hooks={"request": [_bound_connecting]},
        verify=_tls(),
        **guarded(model),
    )
    sdk = genai.Client(
        # Without options for retries the SDK makes none: they are the executor's, which knows the turn's deadline.
        http_options=HttpOptions(
            base_url=base_url,
            httpx_async_client=http,
            client_args={"verify": _tls()},  # for its clients that are never used, and would make one each
            async_client_args={"ssl": _tls()},
        ),
        **whose,
    )
    return GoogleClient(sdk, http)


@cache
def _tls() -> SSLContext:
    """One TLS context for all clients: the SDK would take 80 ms of CPU time for each to create its own."""
    return httpx2.create_ssl_context()


async def _bound_connecting(request: httpx2.Request) -> None:
    """Give opening a connection its limit: the SDK sets one for all of a request, or none at all."""
    request.extensions["timeout"]["connect"] = CONNECT_SECONDS
