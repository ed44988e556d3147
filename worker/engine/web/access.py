"""How the tools, fetches and webhooks of one organization reach the web."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from worker.workflow.web_address import NO_HOSTS, AllowedHosts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from worker.engine.web.client import WebClient, WebRequest, WebResponse


@dataclass(frozen=True, slots=True)
class WebAccess:
    """One organization's way to the web.

    Attributes:
        client: The event loop's client.
        credentials: Looks up what headers a credential of this name sends. Its errors are `TurnWorkerError`s.
        allowed: The hosts that may be reached although they lead to addresses that are not public.
    """

    client: WebClient
    credentials: Callable[[str], Awaitable[Mapping[str, str]]]
    allowed: AllowedHosts = NO_HOSTS

    async def send(self, request: WebRequest, credential: str | None = None) -> WebResponse:
        """Make a request with the headers of a credential, if one is named.

        Raises:
            WebError: There is no usable answer.
            TurnWorkerError: The credential cannot be used.
        """
        if credential:
            request = replace(request, headers={**request.headers, **await self.credentials(credential)})
        return await self.client.send(request, self.allowed)
