"""Every error the API answers with: RFC 9457 problem details, each with a stable `type` that explains itself.

A `type` is a path of this API: `GET` it and it says what the problem means and what to do. `code` is its last part in
the form of the error codes that failed turns carry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from worker.errors import TurnWorkerError
from worker.storage.limits import LimitReached
from worker.storage.session_lock import RevisionConflict, SessionBusy
from worker.telemetry import names
from worker.workflow.problem import InvalidWorkflow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from pydantic_core import ErrorDetails
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem.

    Attributes:
        title: What is wrong, the same for every occurrence.
        explanation: What it means and what to do about it.
        retry_after: It comes with a `Retry-After`.
    """

    code: str
    status: int
    title: str
    explanation: str
    retry_after: bool = False

    @property
    def uri(self) -> str:
        """Its `type`: a path of this API."""
        return f"/problems/{self.code.replace('_', '-')}"


def _catalogue(*types: ProblemType) -> dict[str, ProblemType]:
    return {type_.code: type_ for type_ in types}


CATALOGUE: Final = _catalogue(
    ProblemType(
        "malformed_json",
        400,
        "The body is not JSON",
        "The request's body must be one JSON value in UTF-8. `detail` names the place where it stops being that.",
    ),
    ProblemType(
        "malformed_form",
        400,
        "The body is no form",
        "A document is uploaded as `multipart/form-data` with the document in its part `file`, as browsers and "
        "`curl -F file=@manual.pdf` do it.",
    ),
    ProblemType(
        "bad_request",
        400,
        "The request cannot be understood",
        "The request is not well-formed HTTP for this resource. `detail` says what is wrong with it.",
    ),
    ProblemType(
        "unauthorized",
        401,
        "A valid API key is needed",
        "Send `Authorization: Bearer KEY` with a key of your organization. Keys begin with `twk_`; one that was revoked, "
        "or of which a character is missing, opens nothing. Keys are made with `turn-worker keys create`.",
    ),
    ProblemType("forbidden", 403, "This is not allowed", "The key does not give the right to do this."),
    ProblemType(
        "not_found",
        404,
        "There is nothing at this path",
        "No resource of this API has this path. `/docs` and `/openapi.json` list those there are.",
    ),
    ProblemType(
        "workflow_not_found",
        404,
        "There is no such workflow",
        "Your organization has no workflow with this id, or it has no definition of this number.",
    ),
    ProblemType("session_not_found", 404, "There is no such session", "Your organization has no session with this id."),
    ProblemType("turn_not_found", 404, "There is no such turn", "Your organization has no turn with this id."),
    ProblemType(
        "tool_not_found",
        404,
        "There is no such tool",
        "Your organization has no tool with this id, or has deleted it, or it has no version of this number.",
    ),
    ProblemType(
        "credential_not_found",
        404,
        "There is no such credential",
        "Your organization has no credential of this name.",
    ),
    ProblemType(
        "document_not_found", 404, "There is no such document", "Your organization has no document with this id."
    ),
    ProblemType(
        "recording_not_found", 404, "There is no such recording", "Your organization has no recording with this id."
    ),
    ProblemType(
        "method_not_allowed",
        405,
        "This method is not allowed here",
        "The resource exists but does not know this method. The `Allow` header lists those it knows.",
    ),
    ProblemType(
        "session_ended",
        409,
        "The session has ended",
        "A session that is over takes no more turns. Create a new one.",
    ),
    ProblemType(
        "session_busy",
        409,
        "The session is busy",
        "A turn of the session is pending or running, and the request cannot be done meanwhile: a message by the policy "
        "`reject`, or a rewind. `turn_id` and `turn_status` name it. Wait for its end, or cancel it, and try again.",
    ),
    ProblemType(
        "turn_not_retryable",
        409,
        "The turn cannot be retried",
        "Only a turn that failed or was cancelled can be tried again, and only once at a time; `detail` says what stands in "
        "the way. What a further message took over is answered by the turn of that message.",
    ),
    ProblemType(
        "head_moved",
        409,
        "The conversation has gone on",
        "The turn went on from another turn than the one that is the session's head now. Rewind the session to that turn "
        "first, or enqueue the message anew.",
    ),
    ProblemType(
        "turn_not_completed",
        409,
        "The turn was not answered",
        "A conversation can go on only from a completed turn, or from its beginning (`turn_id` null).",
    ),
    ProblemType(
        "revision_conflict",
        409,
        "The session has changed",
        "The session is no longer at the `expected_revision` that the request named; `actual_revision` is where it is. "
        "Read it again and decide anew.",
    ),
    ProblemType(
        "tool_exists",
        409,
        "There is a tool with this id",
        "The id belongs to a tool of your organization, perhaps to a deleted one. PUT the tool to give it its next version, "
        "or create it under another id.",
    ),
    ProblemType(
        "credential_exists",
        409,
        "There is a secret of this name",
        "A credential, or another secret of your organization, has this name. PUT the credential to replace it, or choose "
        "another name.",
    ),
    ProblemType(
        "recording_exists",
        409,
        "There is a recording with this id",
        "A recording is never changed: delete the one there is first, or register the new one under another id.",
    ),
    ProblemType(
        "body_too_large",
        413,
        "The body is too large",
        "The request's body has more bytes than `limit_bytes`, which is set by TURN_WORKER_MAX_BODY_BYTES.",
    ),
    ProblemType(
        "document_too_large",
        413,
        "The document is too large",
        "The document has more bytes than TURN_WORKER_MAX_DOCUMENT_BYTES allows. Upload it in parts.",
    ),
    ProblemType(
        "unsupported_media_type",
        415,
        "The body is not declared as what is expected here",
        "Send `Content-Type: application/json`, or `multipart/form-data` where a document is uploaded.",
    ),
    ProblemType(
        "unsupported_document",
        415,
        "The document is of a kind that cannot be read",
        "Plain text, Markdown, HTML and PDF can be read. What a document is declared as must be what its content is; of "
        "other kinds, upload the text.",
    ),
    ProblemType(
        "invalid_request",
        422,
        "Some values of the request are not acceptable",
        "`errors` names every value that is not accepted: where it stands (`in` and `pointer`), what is wrong with it "
        "(`message`) and what would be accepted (`accepted`).",
    ),
    ProblemType(
        "scheduled_too_far_ahead",
        422,
        "The turn is scheduled too far ahead",
        "`not_before` may lie at most as many days ahead as TURN_WORKER_SCHEDULE_HORIZON_DAYS says.",
    ),
    ProblemType(
        "invalid_workflow",
        422,
        "The workflow definition is not valid",
        "`errors` names every problem of the definition: whether a node, an edge or the workflow as a whole is concerned "
        "(`kind`), its `id`, the `field` inside it and what is wrong (`message`).",
    ),
    ProblemType(
        "idempotency_key_reused",
        422,
        "The Idempotency-Key belongs to another request",
        "A key stands for one request with one body for 24 hours. Repeat that request unchanged, or use a new key.",
    ),
    ProblemType(
        "limit_reached",
        429,
        "A limit of the organization is reached",
        "`limit` names which: `max_pending_turns` (turns that wait), `enqueue_per_minute` or `tokens_per_day` (LLM tokens, "
        "until midnight UTC); `allowed` is where it stands. Nothing was stored. Try again after the seconds in `Retry-After`. "
        "The operator sets limits with `turn-worker org set`.",
        retry_after=True,
    ),
    ProblemType(
        "unknown_language",
        422,
        "The language is not known",
        "`language` names a text search configuration of the database, such as `english`; `simple` fits every language. "
        "`detail` lists those there are.",
    ),
    ProblemType(
        "internal_error",
        500,
        "Something went wrong inside the API",
        "This is a defect. The server's log has a line with the same `instance`; quote it when you report the problem.",
    ),
    ProblemType(
        "secret_key_missing",
        501,
        "Secrets cannot be stored here",
        "The server was given no usable key to encrypt secrets with. Its operator sets TURN_WORKER_SECRET_KEY.",
    ),
    ProblemType(
        "database_unavailable",
        503,
        "The database is not available",
        "Try again after the seconds in `Retry-After`. A request that was to change something may have done so: repeat "
        "it with the same `Idempotency-Key` and it takes effect once.",
        retry_after=True,
    ),
)

_OF_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
}


class Problem(Exception):
    """A request that is answered with a problem.

    Args:
        code: which of the `CATALOGUE`.
        detail: what is wrong this time, and what to do.
        headers: to be sent with it.
        extensions: further members of the answer.
    """

    def __init__(
        self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extensions: object
    ) -> None:
        super().__init__(code, detail)
        self.type = CATALOGUE[code]
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions

    def to_response(self) -> Response:
        """The answer."""
        body = {
            "type": self.type.uri,
            "title": self.type.title,
            "status": self.type.status,
            "code": self.type.code,
            "detail": self.detail,
            **self.extensions,
        }
        return Response(json.dumps(body), self.type.status, headers=self.headers, media_type=MEDIA_TYPE)


def invalid_request(errors: Sequence[Mapping[str, object]]) -> Problem:
    """The problem of values that are not accepted; `errors` as the catalogue describes them."""
    count = "One value is" if len(errors) == 1 else f"{len(errors)} values are"
    return Problem("invalid_request", f"{count} not acceptable; see `errors`.", errors=list(errors))


def describe(
    error: ErrorDetails, *, place: str, pointer: Sequence[int | str], accepted: str | None
) -> dict[str, object]:
    """One item of `errors`, from what pydantic found."""
    message = error["msg"].removeprefix("Value error, ")
    described: dict[str, object] = {
        "in": place,
        "pointer": "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in pointer),
        "message": message,
    }
    if accepted is not None:
        described["accepted"] = accepted
    return described


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem."""

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> Response:
        return error.to_response()

    @app.exception_handler(TurnWorkerError)
    async def known(request: Request, error: TurnWorkerError) -> Response:
        return _of_known(request, error).to_response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        described = [
            describe(item, place=str(item["loc"][0]), pointer=item["loc"][1:], accepted=None) for item in error.errors()
        ]
        return invalid_request(described).to_response()

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        code = _OF_STATUS.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
        return Problem(code, f"{HTTPStatus(error.status_code).phrase}.", headers=error.headers).to_response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return _internal(request, error).to_response()


def _of_known(request: Request, error: TurnWorkerError) -> Problem:
    extensions: dict[str, Any] = {}
    headers: dict[str, str] = {}
    match error:
        case LimitReached():
            extensions = {"limit": error.limit, "allowed": error.allowed}
            headers = {"Retry-After": str(error.retry_after_seconds)}
        case RevisionConflict():
            extensions = {"expected_revision": error.expected, "actual_revision": error.actual}
        case SessionBusy():
            extensions = {"turn_id": str(error.turn_id), "turn_status": error.status}
        case InvalidWorkflow():
            extensions = {
                "errors": [
                    {"kind": found.kind, "id": found.id, "field": found.field, "message": found.message}
                    for found in error.problems
                ]
            }
    if error.code == "database_unavailable":
        _log.warning(names.REQUEST_UNAVAILABLE, path=request.url.path, error=str(error))
        return Problem(
            error.code,
            "PostgreSQL cannot be used at the moment. Try again shortly.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    if error.code not in CATALOGUE:
        return _internal(request, error)
    return Problem(error.code, str(error), headers=headers, **extensions)


def _internal(request: Request, error: Exception) -> Problem:
    instance = f"urn:uuid:{uuid4()}"
    _log.error(names.REQUEST_FAILED, method=request.method, path=request.url.path, instance=instance, exc_info=error)
    return Problem("internal_error", "The request could not be answered because of a defect.", instance=instance)
