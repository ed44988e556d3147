"""The fields that definitions of tools are made of: what each accepts, and what it says when it does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints

from worker.workflow.template import UnsafeURL, render_url, template_problem
from worker.workflow.written import Written

_NAME_PATTERN: Final = r"^[a-zA-Z0-9_-]{1,64}$"
_HEADER_NAME: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
_CONNECTION_HEADERS: Final = frozenset(
    {"connection", "content-length", "host", "idempotency-key", "te", "trailer", "transfer-encoding", "upgrade"}
)
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _template(value: str) -> str:
    if problem := template_problem(value):
        raise ValueError(problem)
    return value


def _json_template(value: JsonValue) -> JsonValue:
    match value:
        case str():
            _template(value)
        case list():
            for item in value:
                _json_template(item)
        case dict():
            for item in value.values():
                _json_template(item)
    return value


def _one_line(value: str) -> str:
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise ValueError("It may not contain line breaks or control characters.")
    return value


def _url(value: str) -> str:
    _template(value)
    try:
        render_url(value, {}, {}, _ANY_TIME)
    except UnsafeURL as error:
        raise ValueError(error.reason[0].upper() + error.reason[1:]) from None
    if "@" in urlsplit(value).netloc:
        raise ValueError("A URL carries no user name or password. Store a credential and name it in `credential`.")
    return value


def _header_name(value: str) -> str:
    if value.lower() in _CREDENTIAL_HEADERS:
        raise ValueError(f"{value} is not written here. Store a credential and name it in `credential`.")
    if value.lower() in _CONNECTION_HEADERS:
        raise ValueError(f"{value} is set by the worker itself.")
    return value


def _without_placeholders(value: str) -> str:
    if "{{" in value:
        raise ValueError("This address has no placeholders: it is the same in every conversation.")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("There is no such time zone. Give its IANA name, such as Europe/Berlin.") from None
    return value


ToolName = Annotated[str, StringConstraints(pattern=_NAME_PATTERN)]
"""What the model calls a tool: the names that every provider takes."""

Description = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4096)]
Template = Annotated[str, StringConstraints(max_length=32_768), AfterValidator(_template)]
JsonTemplate = Annotated[JsonValue, AfterValidator(_json_template)]
LineTemplate = Annotated[Template, AfterValidator(_one_line)]
UrlTemplate = Annotated[str, StringConstraints(max_length=8192), AfterValidator(_one_line), AfterValidator(_url)]
PlainUrl = Annotated[UrlTemplate, AfterValidator(_without_placeholders)]
HeaderName = Annotated[str, StringConstraints(pattern=_HEADER_NAME), AfterValidator(_header_name)]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_one_line)
]
TimeoutSeconds = Annotated[float, Field(ge=0.1, le=60.0, allow_inf_nan=False)]
Zone = Annotated[str, AfterValidator(_zone)]


class Part(Written):
    """Something written by a user: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")
