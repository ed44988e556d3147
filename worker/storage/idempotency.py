"""Answers to requests that carried an `Idempotency-Key`, so that a repeated one is answered the same and does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from worker.errors import TurnWorkerError
from worker.storage.schema import idempotency_keys

if TYPE_CHECKING:
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_SECONDS = 24 * 60 * 60
"""How long an answer is kept; a key older than that is as good as new."""


class IdempotencyKeyReused(TurnWorkerError):
    """The key was used before, with another body."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"The Idempotency-Key {self.key!r} was used before, for a request with another body. "
            "Repeat the first request unchanged, or use a new key for a new one."
        )


class AlreadyAnswered(TurnWorkerError):
    """The key was used before, so what was just done must not happen: roll it back, and give the first answer."""

    code = "already_answered"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"A request with the Idempotency-Key {self.key!r} was answered before. Read that answer."


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that may be repeated.

    Attributes:
        path: The concrete path, as `/v1/sessions/0198.../turns`.
        fingerprint: SHA-256 of the body.
    """

    organization_id: UUID
    method: str
    path: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered."""

    status_code: int
    headers: dict[str, str]
    body: JsonValue


_AGE = func.make_interval(0, 0, 0, 0, 0, 0, KEPT_SECONDS)
_INSERT = insert(idempotency_keys)
# The insert waits for a concurrent one of the same key to commit or roll back: that is how a duplicate waits.
_KEEP = _INSERT.on_conflict_do_update(
    index_elements=["organization_id", "method", "path", "key"],
    set_={name: _INSERT.excluded[name] for name in ("fingerprint", "status_code", "headers", "body")}
    | {"created_at": func.now()},
    where=idempotency_keys.c.created_at < func.now() - _AGE,
).returning(idempotency_keys.c.key)
_FIND = select(
    idempotency_keys.c.fingerprint,
    idempotency_keys.c.status_code,
    idempotency_keys.c.headers,
    idempotency_keys.c.body,
).where(
    idempotency_keys.c.organization_id == bindparam("organization_id"),
    idempotency_keys.c.method == bindparam("method"),
    idempotency_keys.c.path == bindparam("path"),
    idempotency_keys.c.key == bindparam("key"),
    idempotency_keys.c.created_at >= func.now() - _AGE,
)


async def keep_answer(connection: AsyncConnection, request: KeyedRequest, answer: Answer) -> None:
    """Keep the answer for repetitions of the request: the last statement in the transaction of what the request made.

    While another transaction keeps one for the same key, this waits for its end.

    Raises:
        AlreadyAnswered: when one is kept already. The transaction must be rolled back.
    """
    values = {
        **_key(request),
        "fingerprint": request.fingerprint,
        "status_code": answer.status_code,
        "headers": answer.headers,
        "body": answer.body,
    }
    if await connection.scalar(_KEEP, values) is None:
        raise AlreadyAnswered(request.key)


async def find_answer(connection: AsyncConnection, request: KeyedRequest) -> Answer | None:
    """What the request was answered before; None if it was not, or too long ago.

    Raises:
        IdempotencyKeyReused: when the key belongs to a request with another body.
    """
    row = (await connection.execute(_FIND, _key(request))).one_or_none()
    if row is None:
        return None
    if row.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused(request.key)
    return Answer(row.status_code, row.headers, row.body)


def _key(request: KeyedRequest) -> dict[str, Any]:
    return {
        "organization_id": request.organization_id,
        "method": request.method,
        "path": request.path,
        "key": request.key,
    }
