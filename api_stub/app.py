"""The API as an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI

from api_stub import documentation, problems
from api_stub.routes import (
    control,
    credentials,
    documents,
    events,
    health,
    metrics,
    recordings,
    sessions,
    text,
    tools,
    turns,
    usage,
    workflows,
)
from api_stub.routes import problems as problem_pages
from api_stub.services import Services
from worker.settings import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from worker.settings import Settings
    from worker.turns.dispatch import Doorbell

# A request is compared with the routes in this order, and most are about turns.
_ROUTERS = (
    turns.router,
    workflows.router,
    sessions.router,
    control.router,
    events.router,
    text.router,
    recordings.router,
    tools.router,
    credentials.router,
    documents.router,
    usage.router,
    health.router,
    metrics.router,
    problem_pages.router,
)


def create_app(settings: Settings, doorbell: Doorbell | None = None) -> FastAPI:
    """Make the application. It starts, and says that it is not ready, even while PostgreSQL or Redis is away.

    Args:
        settings: must name PostgreSQL and Redis.
        doorbell: tells workers of turns that can be claimed; by default through Celery.

    Raises:
        InvalidSettings: when PostgreSQL or Redis is not named.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise InvalidSettings("The API needs DATABASE_URL and REDIS_URL. Set both.")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with Services.open(settings, doorbell) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="pipecat-turn-worker",
        version=version("pipecat-turn-worker"),
        description=documentation.DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for router in _ROUTERS:
        app.include_router(router)
    problems.install(app)
    app.openapi = partial(documentation.document, app)  # type: ignore[method-assign] # FastAPI's documented way
    return app
