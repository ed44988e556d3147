"""Answers: JSON made from what storage returned, and the way of a POST that can be repeated without harm."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi.responses import Response

from api_stub.problems import Problem, invalid_request
from worker.errors import TurnWorkerError
from worker.storage.backlog import Line
from worker.storage.database import DatabaseUnavailable
from worker.storage.idempotency import Answer, KeyedRequest, find_answer, keep_answer
from worker.telemetry.tracing import TracedTurn, trace_context
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection
    from starlette.requests import Request

    from api_stub.services import Services
    from worker.storage.documents import DocumentReference
    from worker.storage.enqueue import EnqueuedTurn
    from worker.storage.outbox import RecordedEvent
    from worker.storage.turn_views import TurnView
    from worker.workflow.organization_settings import OrganizationSettings

_MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a request: its answer, the events that were recorded, the turns and the document that can now be claimed.

    Attributes:
        enqueued: The turn that it enqueued.
        look_later: A line whose head can be claimed after so many seconds.
    """

    body: Any
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[RecordedEvent] = ()
    ring: Sequence[TurnReference] = ()
    uploaded: DocumentReference | None = None
    enqueued: EnqueuedTurn | None = None
    look_later: tuple[Line, float] | None = None

    def respond(self) -> Response:
        """The answer as it is sent."""
        return respond(self.body, self.status_code, self.headers)


def accepted(turn: EnqueuedTurn, view: TurnView) -> Done:
    """The answer to whoever enqueued a turn: 202, and where to look for what comes of it."""
    return Done(
        view,
        202,
        {"Location": f"/v1/turns/{turn.turn_id}"},
        events=turn.events,
        enqueued=turn,
        ring=[TurnReference(view.organization_id, turn.turn_id)] if turn.rung else (),
        look_later=(Line(view.organization_id, turn.session_id), turn.hold_seconds) if turn.hold_seconds else None,
    )


def encode(body: Any) -> str:
    """JSON of plain values, with dataclasses of the storage shown field by field.

    In ASCII: what a model wrote may hold half a surrogate pair, which has no UTF-8.
    """
    return json.dumps(body, default=_plain, separators=(",", ":"))


def members(view: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name."""
    return {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}


def respond(body: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `body` as `encode` writes it."""
    return Response(encode(body), status_code, headers=headers, media_type="application/json")


async def perform(
    request: Request,
    services: Services,
    organization_id: UUID,
    body: bytes,
    work: Callable[[AsyncConnection], Awaitable[Done]],
    *,
    one_statement: bool = False,
) -> Response:
    """Do a POST's work at most once, then let the world know.

    With an `Idempotency-Key`, the answer is kept in the transaction of the work. Work that was done before is rolled back
    or fails; either way the request is given the first answer, with `Idempotency-Replayed`. A repetition that comes while
    the first request is still at it waits for its end.

    Args:
        one_statement: the work is a single statement, which without a key needs no transaction around it.

    Raises:
        Problem: when the key is not acceptable.
        IdempotencyKeyReused: when it was used before with another body.
    """
    started_ns = time.time_ns()
    keyed = _keyed(request, organization_id, body)
    if keyed is None:
        connecting = services.database.statement() if one_statement else services.database.transaction()
        async with connecting as connection:
            done = await work(connection)
        response = done.respond()
    else:
        try:
            async with services.database.transaction() as connection:
                done = await work(connection)
                response = done.respond()
                answer = Answer(done.status_code, dict(done.headers), json.loads(bytes(response.body)))
                await keep_answer(connection, keyed, answer)
        except DatabaseUnavailable:
            raise
        except (TurnWorkerError, Problem):
            async with services.database.statement() as connection:
                first = await find_answer(connection, keyed)
            if first is None:
                raise
            return respond(first.body, first.status_code, {**first.headers, "Idempotency-Replayed": "true"})
    async with _observed(services, organization_id, done.enqueued, request, started_ns):
        services.dispatch.after_commit(done.events, done.ring)
        if done.uploaded is not None:
            services.dispatch.document_uploaded(done.uploaded)
        if done.look_later is not None:
            services.dispatch.look_later(*done.look_later)
    return response


@asynccontextmanager
async def _observed(
    services: Services, organization_id: UUID, turn: EnqueuedTurn | None, request: Request, started_ns: int
) -> AsyncGenerator[None]:
    """Make what happens inside part of the session's trace, if a turn was enqueued."""
    if turn is None:
        yield
        return
    settings: OrganizationSettings = request.state.caller.settings
    stored = settings.document() if settings.traces.endpoint else {}
    traced = TracedTurn(
        organization_id=organization_id,
        session_id=turn.session_id,
        session_name=turn.session_external_id,
        turn_id=turn.turn_id,
    )
    with services.telemetry.enqueued(
        traced,
        traces=await services.traces.of(organization_id, stored),
        started_ns=started_ns,
        caller=trace_context(request.headers),
    ):
        yield


def _keyed(request: Request, organization_id: UUID, body: bytes) -> KeyedRequest | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise invalid_request(
            [
                {
                    "in": "header",
                    "pointer": "/Idempotency-Key",
                    "message": "It is not acceptable as a key.",
                    "accepted": f"1 to {_MAX_KEY_CHARS} printable ASCII characters; a UUID is a good choice.",
                }
            ]
        )
    return KeyedRequest(organization_id, request.method, _canonical_path(request), key, hashlib.sha256(body).digest())


def _canonical_path(request: Request) -> str:
    """The request's path with every id as it is written everywhere else, whichever spelling of it the client prefers."""
    path: str = request.scope["path"]
    for value in request.path_params.values():
        with suppress(ValueError):
            path = path.replace(value, str(UUID(value)))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return members(value)
