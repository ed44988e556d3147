"""Google Cloud's Vertex AI, and the access tokens it takes."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.google.api import GENERATE, STREAM, GoogleApi

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from worker.embedded.scripted_llm.script import Script

PATH = (
    "/v1beta1/projects/{project}/locations/{location}/publishers/google/models/"
    f"{{model}}:{{method:{GENERATE}|{STREAM}}}"
)

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TOKEN_SECONDS = 3600


class InvalidGrant(Exception):
    """A token is refused: https://www.rfc-editor.org/rfc/rfc6749#section-5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


class AccessTokens:
    """Gives out access tokens to service accounts. It knows no keys of theirs, so a signature is only seen to be there."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._given: set[str] = set()

    def __contains__(self, token: str) -> bool:
        return token in self._given

    def give(self, form: Mapping[str, Any], token_uri: str, rejected: Collection[str]) -> dict[str, Any]:
        """Give out a token.

        Args:
            form: What is asked for.
            token_uri: Where it is.
            rejected: Among other keys, the accounts that get none.

        Raises:
            InvalidGrant: Something is wrong with the request.
        """
        if form.get("grant_type") != _GRANT_TYPE:
            raise InvalidGrant("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        account = _account(str(form.get("assertion", "")), token_uri)
        if account in rejected:
            raise InvalidGrant("invalid_grant", "Invalid grant: account not found")
        token = f"ya29.scripted-{next(self._numbers)}"
        self._given.add(token)
        return {"access_token": token, "expires_in": _TOKEN_SECONDS, "token_type": "Bearer"}


class VertexApi(GoogleApi):
    """`POST .../publishers/google/models/{model}:generateContent` and `:streamGenerateContent?alt=sse` of a project.

    Args:
        model: The model in the path.
        stream: Whether the answer is streamed, which the path says too.
        tokens: The tokens given out.
    """

    call_ids: ClassVar[bool] = False

    def __init__(self, model: str, *, stream: bool, tokens: AccessTokens) -> None:
        super().__init__(model, stream=stream)
        self._tokens = tokens

    def api_key(self, headers: Mapping[str, str]) -> str:
        """Return the access token."""
        return headers.get("authorization", "").removeprefix("Bearer ")

    def authenticate(self, headers: Mapping[str, str], api_key: str, script: Script) -> None:  # noqa: ARG002
        """Refuse a caller without a token that this server gave out, or with one the script rejects."""
        if api_key not in self._tokens or api_key in script.rejected_keys:
            raise ApiError(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
            )


def _account(assertion: str, token_uri: str) -> str:
    """Return whose assertion it is, if it is one: https://developers.google.com/identity/protocols/oauth2/service-account."""
    try:
        header, claims, signature = map(_decoded, assertion.split("."))
        head, said = json.loads(header), json.loads(claims)
        signed = head["alg"] == "RS256" and head["kid"] and signature
        account, audience, scopes = str(said["iss"]), said["aud"], said["scope"].split()
        seconds = said["exp"] - said["iat"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidGrant("invalid_request", "Bad Request") from None
    if not signed:
        raise InvalidGrant("invalid_grant", "Invalid JWT Signature.")
    if audience != token_uri:
        raise InvalidGrant("invalid_grant", "Invalid JWT: Failed audience check.")
    if not 0 < seconds <= _TOKEN_SECONDS:
        raise InvalidGrant(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat "
            "and exp values in the JWT claim.",
        )
    if _SCOPE not in scopes:
        raise InvalidGrant("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    return account


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
