"""Answers to requests that carried an `Idempotency-Key`, so that a repeated one is answered the same and does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, update
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


_TAKE = insert(idempotency_keys)
# The insert waits for a concurrent one of the same key to commit or roll back: that is how a duplicate waits.
_TAKE_OR_RENEW = _TAKE.on_conflict_do_update(
    index_elements=["organization_id", "method", "path", "key"],
    set_={"fingerprint": _TAKE.excluded.fingerprint, "created_at": func.now()},
    where=idempotency_keys.c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, KEPT_SECONDS),
).returning(idempotency_keys.c.key)
_ONE = (
    idempotency_keys.c.organization_id == bindparam("b_organization_id"),
    idempotency_keys.c.method == bindparam("b_method"),
    idempotency_keys.c.path == bindparam("b_path"),
    idempotency_keys.c.key == bindparam("b_key"),
)
_READ = select(
    idempotency_keys.c.fingerprint,
    idempotency_keys.c.status_code,
    idempotency_keys.c.headers,
    idempotency_keys.c.body,
).where(*_ONE)
_KEEP = (
    update(idempotency_keys)
    .where(*_ONE)
    .values(status_code=bindparam("b_status_code"), headers=bindparam("b_headers"), body=bindparam("b_body"))
)


async def take_key(connection: AsyncConnection, request: KeyedRequest) -> Answer | None:
    """Begin a transaction that does what the request asks, at most once.

    While the same request is being answered in another transaction, this waits for its end.

    Returns:
        None: go on, and `keep_answer` before committing. A rollback forgets the key, so a failure is never kept.
        Otherwise what the request was answered the first time: there is nothing to do.

    Raises:
        IdempotencyKeyReused: when the key belongs to a request with another body.
    """
    while True:
        taken = await connection.scalar(
            _TAKE_OR_RENEW,
            {
                "organization_id": request.organization_id,
                "method": request.method,
                "path": request.path,
                "key": request.key,
                "fingerprint": request.fingerprint,
            },
        )
        if taken is not None:
            return None
        first = (await connection.execute(_READ, _key(request))).one_or_none()
        if first is None:
            continue  # it grew old and was purged between the two statements
        if first.fingerprint != request.fingerprint:
            raise IdempotencyKeyReused(request.key)
        return Answer(first.status_code, first.headers, first.body)


async def keep_answer(connection: AsyncConnection, request: KeyedRequest, answer: Answer) -> None:
    """Keep the answer for repetitions of the request, in the transaction of what the request made."""
    await connection.execute(
        _KEEP,
        {
            **_key(request),
            "b_status_code": answer.status_code,
            "b_headers": answer.headers,
            "b_body": answer.body,
        },
    )


def _key(request: KeyedRequest) -> dict[str, Any]:
    return {
        "b_organization_id": request.organization_id,
        "b_method": request.method,
        "b_path": request.path,
        "b_key": request.key,
    }
