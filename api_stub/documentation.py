"""The OpenAPI document: what routes cannot say by their signatures alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api_stub import control_requests, document_requests, recording_requests, requests, tool_requests
from api_stub.problems import CATALOGUE, MEDIA_TYPE
from api_stub.schemas import ProblemDetails

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

_REF: Final = "#/components/schemas/{model}"
_BODIES: Final = (
    requests.CreateWorkflow,
    requests.PutWorkflow,
    requests.CreateSession,
    requests.EnqueueTurn,
    requests.EndSession,
    control_requests.CancelTurn,
    control_requests.RetryTurn,
    control_requests.RewindSession,
    control_requests.ForkSession,
    recording_requests.CreateRecording,
    tool_requests.CreateTool,
    tool_requests.PutTool,
    tool_requests.CreateCredential,
    tool_requests.PutCredential,
    document_requests.UploadDocument,
)
_WITH_KEY: Final = ("unauthorized", "invalid_request", "internal_error", "database_unavailable")
_WITH_BODY: Final = ("malformed_json", "body_too_large", "unsupported_media_type")

DESCRIPTION: Final = """\
Enqueue the turns of conversations with node-graph agents, and follow what comes of them.

* **Enqueueing** answers `202` as soon as the turn is stored. Then poll it, wait for it (`?wait=` seconds) or follow its
  events (`Accept: text/event-stream`).
* **Every error** is an RFC 9457 problem; `GET` its `type` and it explains itself.
* **Repeating a POST is safe** with an `Idempotency-Key`: within 24 hours, the same key and body get the same answer,
  with `Idempotency-Replayed: true`, and nothing is done twice.
* **Lists** give `next_cursor`; pass it as `cursor` to go on.
"""


def accepts(
    model: type[BaseModel], *, required: bool = True, keyed: bool = True, media_type: str = "application/json"
) -> dict[str, Any]:
    """What a route adds to its operation (`openapi_extra`) to declare its body and that it can be repeated safely."""
    reference = {"$ref": _REF.format(model=model.__name__)}
    extra: dict[str, Any] = {"requestBody": {"required": required, "content": {media_type: {"schema": reference}}}}
    if keyed:
        extra["parameters"] = [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Makes repeating the request safe, for 24 hours.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        ]
    return extra


def answers(
    success: dict[int, tuple[type[BaseModel] | None, str]],
    *problems: str,
    body: bool = False,
    located: bool = False,
    public: bool = False,
) -> dict[int | str, dict[str, Any]]:
    """What a route declares as its `responses`.

    Args:
        success: by status, the model of the answer (None for an answer without a body) and what it means.
        problems: the codes of those that this route may answer with, beside those that any route with a key may.
        body: it reads a body.
        located: its answers carry a `Location`.
        public: it asks for no key.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status, (model, description) in success.items():
        responses[status] = (
            {"description": description} if model is None else {"model": model, "description": description}
        )
        if located:
            responses[status]["headers"] = {
                "Location": {"description": "The path of what was made.", "schema": {"type": "string"}}
            }
    for code in (*problems, *(_WITH_BODY if body else ()), *(() if public else _WITH_KEY)):
        kind = CATALOGUE[code]
        example = {
            "type": kind.uri,
            "title": kind.title,
            "status": kind.status,
            "code": code,
            "detail": kind.explanation,
        }
        response = responses.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": _REF.format(model=ProblemDetails.__name__)}, "examples": {}}
                },
            },
        )
        if kind.retry_after:
            response["headers"] = {
                "Retry-After": {"description": "When to try again, in seconds.", "schema": {"type": "integer"}}
            }
        response["content"][MEDIA_TYPE]["examples"][code] = {"summary": kind.title, "value": example}
    return responses


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        bodies: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
            (model, "validation") for model in _BODIES
        ]
        _, definitions = models_json_schema([*bodies, (ProblemDetails, "serialization")], ref_template=_REF)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components.update(definitions["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
