"""Answers: JSON made from what storage returned, and the way of a POST that can be repeated without harm."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi.responses import Response

from api_stub.problems import invalid_request
from worker.storage.idempotency import Answer, KeyedRequest, keep_answer, take_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection
    from starlette.requests import Request

    from api_stub.services import Services
    from worker.storage.outbox import RecordedEvent
    from worker.turns.dispatch import TurnReference

_MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a request: its answer, the events that were recorded, the turns that can now be claimed."""

    body: Any
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[RecordedEvent] = ()
    ring: Sequence[TurnReference] = ()


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
) -> Response:
    """Do a POST's work in one transaction, then let the world know.

    With an `Idempotency-Key`, the answer is kept in the same transaction. A repetition is given that answer and the
    header `Idempotency-Replayed`; one that comes while the first is still at it waits for its end.

    Raises:
        Problem: when the key is not acceptable.
        IdempotencyKeyReused: when it was used before with another body.
    """
    keyed = _keyed(request, organization_id, body)
    async with services.database.transaction() as connection:
        if keyed is not None:
            first = await take_key(connection, keyed)
            if first is not None:
                return respond(first.body, first.status_code, {**first.headers, "Idempotency-Replayed": "true"})
        done = await work(connection)
        response = respond(done.body, done.status_code, done.headers)
        if keyed is not None:
            answer = Answer(done.status_code, dict(done.headers), json.loads(bytes(response.body)))
            await keep_answer(connection, keyed, answer)
    services.dispatch.after_commit(done.events, done.ring)
    return response


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
    return KeyedRequest(organization_id, request.method, request.scope["path"], key, hashlib.sha256(body).digest())


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return members(value)
