"""Signing in to Google Cloud with a service account's key: https://developers.google.com/identity/protocols/oauth2/service-account."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx2
from google.auth import crypt, jwt

from worker.engine import failures
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from worker.workflow.service_account import ServiceAccount

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 3600
"""How long an assertion holds: the longest that Google takes."""

_SPARE_SECONDS: Final = 225.0
"""How long before its end a token is given up: it has to last for the request, and clocks differ."""

_LONGEST_QUOTE: Final = 500


class ServiceAccountAuth(httpx2.Auth):
    """Signs requests in with access tokens. One serves all of a client's requests until it is about to expire.

    Google's own library would ask for them in a thread and over a client of its own, which leads anywhere. Here they are
    asked for over the client that is signed in, by the rules that hold for it.
    """

    def __init__(self, account: ServiceAccount) -> None:
        self._account = account
        self._signer: crypt.Signer | None = None
        self._token = ""
        self._good_until = 0.0
        self._asking = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Sign a request in, and once more with a new token when the one at hand is not taken any more.

        Raises:
            TurnFailed: There is no token to be had, and why.
        """
        for _ in range(2):
            async with self._asking:
                if time.monotonic() >= self._good_until:
                    answer = yield await self._token_request(request)
                    await answer.aread()
                    self._keep(answer)
                token = self._token
            request.headers["Authorization"] = f"Bearer {token}"
            answer = yield request
            if answer.status_code != HTTPStatus.UNAUTHORIZED:
                return
            if token == self._token:
                self._good_until = 0.0

    async def _token_request(self, request: httpx2.Request) -> httpx2.Request:
        if self._signer is None:
            # In a thread: to check the key takes as long as many a turn.
            self._signer = await asyncio.to_thread(_signer, self._account)
        now = int(time.time())
        claims = {
            "iss": self._account.client_email,
            "scope": _SCOPE,
            "aud": self._account.token_uri,
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        assertion = jwt.encode(self._signer, claims)  # type: ignore[no-untyped-call]
        return httpx2.Request(
            "POST",
            self._account.token_uri,
            data={"grant_type": _GRANT_TYPE, "assertion": assertion.decode()},
            extensions=request.extensions,
        )

    def _keep(self, answer: httpx2.Response) -> None:
        said = _said(answer)
        token, seconds = said.get("access_token"), said.get("expires_in")
        if answer.status_code != HTTPStatus.OK or not isinstance(token, str) or not isinstance(seconds, (int, float)):
            raise _refused(answer.status_code, said, self._account)
        self._token, self._good_until = token, time.monotonic() + seconds - _SPARE_SECONDS


def _signer(account: ServiceAccount) -> crypt.Signer:
    try:
        signer: crypt.Signer = crypt.RSASigner.from_string(  # type: ignore[no-untyped-call]
            account.private_key.get_secret_value(), account.private_key_id
        )
    except ValueError:
        raise failures.LLMNotConfigured(
            "The `private_key` of the service account that is the API key cannot be read. "
            "Store the key again, as Google Cloud gave it out: turn-worker config set."
        ) from None
    return signer


def _said(answer: httpx2.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _refused(status: int, said: dict[str, Any], account: ServiceAccount) -> failures.TurnFailed:
    """What an answer without a token means: https://www.rfc-editor.org/rfc/rfc6749#section-5.2."""
    reason = ": ".join(str(said[key]) for key in ("error", "error_description") if said.get(key)) or "no reason given"
    text = (
        f"{account.client_email} was given no access token by {httpx2.URL(account.token_uri).host} (answered {status}): "
        f"{mask_secrets(reason)[:_LONGEST_QUOTE].rstrip('.')}."
    )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return failures.LLMRateLimited(text)
    if status == HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return failures.LLMUnavailable(text)
    return failures.LLMAuthenticationFailed(
        f"{text} Check the service account and its key, and the clock of this machine."
    )
