"""One request as the clients send it, and how its answer is read. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from api_stub import schemas
from api_stub.client.errors import ApiError, error_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    import httpx

T = TypeVar("T")

MAX_WAIT_SECONDS = 30.0
"""What the API waits at most in one request."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, which may be sent again without harm: it reads, replaces or deletes, or it carries an idempotency key.

    Attributes:
        answer: Reads the body of a successful answer.
        files: Parts of a form by name: filename, content and media type, which may be empty.
        patience_seconds: How much longer than usual the answer may take.
    """

    method: str
    path: str
    answer: TypeAdapter[T]
    params: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    patience_seconds: float = 0.0

    def read(self, response: httpx.Response) -> T:
        """What the API answered.

        Raises:
            ApiError: when it is a problem.
        """
        if response.is_success:
            return self.answer.validate_json(response.content or b"null")
        raise problem_of(response)


def problem_of(response: httpx.Response) -> ApiError:
    """The error that an answer stands for, be it the API's or that of a proxy on the way."""
    try:
        problem = schemas.ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        problem = schemas.ProblemDetails(
            type="about:blank",
            title=response.reason_phrase or "The request was refused",
            status=response.status_code,
            code="not_from_the_api",
            detail=response.text[:500],
        )
    return error_of(problem, retry_after_seconds(response))


def retry_after_seconds(response: httpx.Response) -> float | None:
    """How long the answer asks to wait before asking again, if it does so in seconds."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def post(path: str, answer: TypeAdapter[T], body: Mapping[str, Any], idempotency_key: str | None) -> Call[T]:
    """A request that makes something: repeated under its key, it makes it once."""
    return Call("POST", path, answer, json=body, headers={"Idempotency-Key": idempotency_key or str(uuid4())})


def id_text(id_: UUID | str | None) -> str | None:
    """An id as a body has it."""
    return None if id_ is None else str(id_)


def without_none(**values: object) -> dict[str, Any]:
    """The members of a body, of which None is left out."""
    return {name: value for name, value in values.items() if value is not None}


def query(**values: object) -> dict[str, str]:
    """The parameters of an address, of which None is left out."""
    return {name: str(value) for name, value in values.items() if value is not None}
