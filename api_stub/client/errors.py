"""What can go wrong when talking to the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from api_stub.schemas import Document, ProblemDetails, Turn


class ClientError(Exception):
    """Something went wrong that the caller can act on. The root of every error of this library."""


class ApiUnreachable(ClientError):
    """The API gave no answer, however often it was asked. Whether it did what was asked is not known.

    Asking again is safe: pass the same `idempotency_key`.
    """


class RedisUnreachable(ClientError):
    """The subscription to Redis could not be made. Check the URL; or subscribe without one, through the API."""


class DocumentUnfinished(ClientError):
    """A document was not ready within the time one was ready to wait. It goes on all the same.

    Attributes:
        document: As it was last seen.
    """

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.document = document

    def __str__(self) -> str:
        return f"Document {self.document.id} is still {self.document.status}. Wait longer, or again."


class TurnUnfinished(ClientError):
    """A turn was not over within the time one was ready to wait. It goes on all the same.

    Attributes:
        turn: As it was last seen.
    """

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn)
        self.turn = turn

    def __str__(self) -> str:
        return (
            f"Turn {self.turn.id} is still {self.turn.status}, in attempt {self.turn.attempt}. Wait longer, or again."
        )


class ApiError(ClientError):
    """The API answered with a problem.

    Attributes:
        problem: RFC 9457 problem details, further members included.
        retry_after_seconds: When the API asks to try again, if it does.
    """

    def __init__(self, problem: ProblemDetails, retry_after_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        listed = "".join(f"\n- {error}" for error in self.extensions.get("errors", ()))
        return f"{self.problem.title} ({self.problem.status}, {self.code}): {self.problem.detail}{listed}"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The stable, machine-readable name of the problem, such as `session_ended`."""
        return self.problem.code

    @property
    def extensions(self) -> dict[str, Any]:
        """What this kind of problem says beyond the usual members, such as `errors` or `actual_revision`."""
        return self.problem.model_extra or {}


class InvalidApiKey(ApiError):
    """The key is missing, unknown or revoked (401)."""


class NotFound(ApiError):
    """The organization of the key has no such workflow, session or turn (404)."""


class Conflict(ApiError):
    """The session's state does not allow it: `session_ended`, `revision_conflict` (409)."""


class InvalidRequest(ApiError):
    """What was sent is not acceptable; `extensions["errors"]` names every fault (400, 413, 415, 422)."""


class LimitReached(ApiError):
    """A limit of the organization is reached; `extensions["limit"]` names it. Nothing was done (429)."""


class ApiUnavailable(ApiError):
    """The API, or what it depends on, is out of order (5xx)."""


def error_of(problem: ProblemDetails, retry_after_seconds: float | None = None) -> ApiError:
    """The error for a problem, of the class its status asks for."""
    kind = _BY_STATUS.get(problem.status, ApiUnavailable if problem.status >= _SERVER_ERRORS else ApiError)
    return kind(problem, retry_after_seconds)


_SERVER_ERRORS: Final = 500
_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    401: InvalidApiKey,
    404: NotFound,
    409: Conflict,
    429: LimitReached,
    **dict.fromkeys((400, 413, 415, 422), InvalidRequest),
}
