"""Whether the process lives, and whether it can answer requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Response

from api_stub import schemas
from api_stub.answers import respond
from api_stub.documentation import answers
from api_stub.problems import RETRY_AFTER_SECONDS
from api_stub.services import Shared
from worker.errors import TurnWorkerError
from worker.storage.schema_revision import applied_revision
from worker.storage.worker_processes import SEEN_SECONDS, living_workers

if TYPE_CHECKING:
    from api_stub.services import Services

router = APIRouter(tags=["health"])

_PATIENCE_SECONDS: Final = 2.0
_asking: set[asyncio.Task[_Found]] = set()


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

    PostgreSQL is needed. Without Redis or workers turns are still accepted and read; they are begun later, and waits wake
    later.
    """
    found = await _ask_database(services)
    redis = None if services.subscriber.connected else "The event channel is not connected."
    dependencies = {
        "postgresql": _dependency(found.trouble, needed=True),
        "redis": _dependency(redis, needed=False),
        "workers": _dependency(found.workers_trouble, needed=False),
    }
    if found.trouble is not None:
        body = {"status": "unavailable", "dependencies": dependencies}
        return respond(body, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
    status = "ready" if redis is None and found.workers_trouble is None else "degraded"
    return respond({"status": status, "dependencies": dependencies})


@dataclass(frozen=True, slots=True)
class _Found:
    trouble: str | None
    workers_trouble: str | None = "It is not known whether any worker lives."


def _dependency(trouble: str | None, *, needed: bool) -> dict[str, object]:
    return {"state": "down" if trouble else "up", "needed": needed, "detail": trouble}


async def _ask_database(services: Services) -> _Found:
    # Giving up a connection to a server that says nothing takes a while; the answer does not wait for that.
    asking = asyncio.create_task(_state_of_database(services))
    _asking.add(asking)
    asking.add_done_callback(_asking.discard)
    await asyncio.wait({asking}, timeout=_PATIENCE_SECONDS)
    if not asking.done():
        asking.cancel()
        return _Found(f"PostgreSQL gave no answer within {_PATIENCE_SECONDS:g} s.")
    return asking.result()


async def _state_of_database(services: Services) -> _Found:
    try:
        async with services.database.statement() as connection:
            trouble = services.schema_revisions.trouble(await applied_revision(connection))
            if trouble is not None:
                return _Found(trouble)
            workers = await living_workers(connection)
    except TurnWorkerError:
        return _Found("PostgreSQL cannot be reached.")
    silence = f"No worker process has said for {SEEN_SECONDS} s that it lives. Turns wait."
    return _Found(None, None if workers else silence)
