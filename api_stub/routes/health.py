"""Whether the process lives, and whether it can answer requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Response

from api_stub import schemas
from api_stub.answers import respond
from api_stub.documentation import answers
from api_stub.problems import RETRY_AFTER_SECONDS
from api_stub.services import Shared
from worker.errors import TurnWorkerError
from worker.storage.views import applied_revision

if TYPE_CHECKING:
    from api_stub.services import Services

router = APIRouter(tags=["health"])

_PATIENCE_SECONDS: Final = 2.0


@router.get("/healthz", responses=answers({200: (schemas.Liveness, "The process lives.")}, public=True))
async def alive() -> Response:
    """Tell that the process lives, whatever the state of what it depends on."""
    return respond({"status": "alive"})


@router.get(
    "/readyz",
    responses=answers(
        {
            200: (schemas.Readiness, "Requests can be answered."),
            503: (schemas.Readiness, "A dependency that is needed is down."),
        },
        public=True,
    ),
)
async def ready(services: Shared) -> Response:
    """Tell whether requests can be answered, and name each dependency with its state.

    PostgreSQL is needed. Without Redis turns are still accepted and read; they are begun later, and waits wake later.
    """
    trouble = await _database_trouble(services)
    dependencies = {
        "postgresql": _dependency(trouble, needed=True),
        "redis": _dependency(
            None if services.subscriber.connected else "The event channel is not connected.", needed=False
        ),
    }
    if trouble is not None:
        status = "unavailable"
    elif services.subscriber.connected:
        status = "ready"
    else:
        status = "degraded"
    body = {"status": status, "dependencies": dependencies}
    if trouble is not None:
        return respond(body, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
    return respond(body)


def _dependency(trouble: str | None, *, needed: bool) -> dict[str, object]:
    return {"state": "down" if trouble else "up", "needed": needed, "detail": trouble}


async def _database_trouble(services: Services) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), services.database.statement() as connection:
            revision = await applied_revision(connection)
    except TimeoutError:
        return f"PostgreSQL gave no answer within {_PATIENCE_SECONDS:g} s."
    except TurnWorkerError:
        return "PostgreSQL cannot be reached."
    return services.schema_revisions.trouble(revision)
