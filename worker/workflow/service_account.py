"""The key of a Google service account: the JSON file that Google Cloud gives out for it, once."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

SERVICE_ACCOUNT_PROVIDERS: Final = frozenset({"google-vertex"})
"""Providers whose key is one of a service account."""

_TOKEN_URIS: Final = frozenset(
    {
        "https://accounts.google.com/o/oauth2/token",
        "https://oauth2.googleapis.com/token",
        "https://www.googleapis.com/oauth2/v4/token",
    }
)
"""Where Google gives out access tokens, now and in older keys."""


class InvalidServiceAccount(ValueError):
    """A key is none of a service account, or not one to be used; the message quotes nothing of it."""


class ServiceAccount(BaseModel):
    """What of such a key it takes to sign in.

    Attributes:
        client_email: Name of the account.
        private_key: Its key, in PEM.
        private_key_id: Name of the key, by which Google finds its public half.
        project_id: The Google Cloud project that the account belongs to.
        token_uri: Where access tokens are asked for.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    type: Literal["service_account"]
    client_email: str = Field(min_length=1)
    private_key: SecretStr = Field(min_length=1)
    private_key_id: str = Field(min_length=1)
    project_id: str = Field(min_length=1)
    token_uri: str = Field(min_length=1)


def read_service_account(key: str, base_url: str | None) -> ServiceAccount:
    """Read a key.

    The key says where tokens are asked for, and its owner may be a tenant. So that is believed where it is Google's own
    address, or in the place that is called anyway, by the same rules.

    Args:
        key: The JSON.
        base_url: Where the account is used, if not at Google's own address.

    Raises:
        InvalidServiceAccount: It cannot be used.
    """
    try:
        account = ServiceAccount.model_validate_json(key)
    except ValidationError as error:
        wrong = sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]})
        details = f" Missing or wrong in it: {', '.join(wrong)}." if wrong else " It is no JSON object."
        raise InvalidServiceAccount(
            "The API key has to be the JSON of a Google service account's key, as Google Cloud gives it out for "
            f"download.{details}"
        ) from None
    if account.token_uri not in _TOKEN_URIS and (base_url is None or _origin(account.token_uri) != _origin(base_url)):
        raise InvalidServiceAccount(
            "The service account's `token_uri` leads neither to Google nor to the host of the base URL. "
            "Take the key as Google Cloud gave it out."
        )
    return account


def service_account_problem(key: str, base_url: str | None) -> str | None:
    """Say why a key cannot be used (see `read_service_account`); None when, as far as it shows by itself, it can."""
    try:
        read_service_account(key, base_url)
    except InvalidServiceAccount as error:
        return str(error)
    return None


def _origin(url: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.scheme, parts.netloc
