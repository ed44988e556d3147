"""What proves to another server who is asking: the kinds of credentials, and the headers each becomes.

Only a credential's name stands in tools and workflows. Its secret parts show in no repr, no error and no JSON except the
one that is encrypted.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from worker.errors import TurnWorkerError

_MAX_SECRET_CHARS: Final = 8192


def _sendable(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.strip():
        raise ValueError("It is blank.")
    if len(text) > _MAX_SECRET_CHARS:
        raise ValueError(f"It has {len(text):,} characters; at most {_MAX_SECRET_CHARS:,} are accepted.")
    if not text.isascii() or not text.isprintable():
        raise ValueError("A header can carry only printable ASCII characters.")
    return value


def _encodable(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) > _MAX_SECRET_CHARS:
        raise ValueError(f"At most {_MAX_SECRET_CHARS:,} characters are accepted.")
    return value


NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9._:-]{0,99}$"
"""What a credential may be called."""

CredentialName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")]
HeaderSecret = Annotated[SecretStr, AfterValidator(_sendable)]


class _Credential(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BearerCredential(_Credential):
    """A token, sent as `Authorization: Bearer TOKEN`."""

    kind: Literal["bearer"]
    token: HeaderSecret

    def headers(self) -> dict[str, str]:
        """What is sent."""
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}


class BasicCredential(_Credential):
    """A user name and a password, sent as `Authorization: Basic ...`."""

    kind: Literal["basic"]
    username: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^:\x00-\x1f\x7f]*$")] = Field(
        description="Without a colon: the password begins behind it."
    )
    password: Annotated[SecretStr, AfterValidator(_encodable)]

    def headers(self) -> dict[str, str]:
        """What is sent."""
        pair = f"{self.username}:{self.password.get_secret_value()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


class ApiKeyHeaderCredential(_Credential):
    """A key, sent in a header such as `X-API-Key`."""

    kind: Literal["api_key_header"]
    header: HeaderName = "X-API-Key"
    key: HeaderSecret

    def headers(self) -> dict[str, str]:
        """What is sent."""
        return {self.header: self.key.get_secret_value()}


class CustomHeaderCredential(_Credential):
    """A header with all of its value, for servers that want something else, such as `Authorization: Token ...`."""

    kind: Literal["custom_header"]
    header: HeaderName
    value: HeaderSecret

    def headers(self) -> dict[str, str]:
        """What is sent."""
        return {self.header: self.value.get_secret_value()}


Credential: TypeAlias = Annotated[
    BearerCredential | BasicCredential | ApiKeyHeaderCredential | CustomHeaderCredential, Field(discriminator="kind")
]
"""What proves to another server who is asking."""

_ADAPTER: Final[TypeAdapter[Credential]] = TypeAdapter(Credential, config=ConfigDict(hide_input_in_errors=True))


class UnknownCredential(TurnWorkerError):
    """A stored credential is of a kind that this release does not know."""

    code: ClassVar[str] = "unknown_credential"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"The credential {self.name!r} is of a kind that this release does not know. Store it again."


def open_credential(name: str, text: str) -> Credential:
    """Read a credential from what `sealed_form` gave, once it is decrypted; `name` is for the error's message.

    Raises:
        UnknownCredential: Another release sealed something that this one does not know.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError:
        raise UnknownCredential(name) from None  # what pydantic found may quote what is secret


def sealed_form(credential: Credential) -> str:
    """The JSON that is encrypted, the secret parts included. For nothing else."""
    return json.dumps(
        {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in credential}
    )
