"""Who is asking: an API key opens everything of its organization and nothing of any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api_stub.problems import Problem
from worker.storage.organizations import Caller, authenticate
from worker.workflow.organization_settings import Limits
from worker.workflow.prices import PriceList

if TYPE_CHECKING:
    from api_stub.services import Services

_bearer = HTTPBearer(
    bearerFormat="twk_...",
    scheme_name="ApiKey",
    description="A key of your organization, made with `turn-worker keys create`.",
    auto_error=False,
)


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    if credentials is None:
        raise _unauthorized("Bearer", "The request carries no API key. Send `Authorization: Bearer twk_...`.")
    services: Services = request.app.state.services
    async with services.database.statement() as connection:
        caller = await authenticate(connection, credentials.credentials)
    if caller is None:
        raise _unauthorized('Bearer error="invalid_token"', "The API key is not known, or it was revoked.")
    request.state.caller = caller
    return caller


# Coroutines, though they await nothing: FastAPI would run plain functions in a thread, for every request.
async def _organization(caller: Annotated[Caller, Security(_caller)]) -> UUID:
    return caller.organization_id


async def _limits(caller: Annotated[Caller, Security(_caller)]) -> Limits:
    return caller.settings.limits


async def _prices(request: Request, caller: Annotated[Caller, Security(_caller)]) -> PriceList:
    services: Services = request.app.state.services
    return {**services.prices, **caller.settings.prices}


async def _trace_url_template(request: Request, caller: Annotated[Caller, Security(_caller)]) -> str | None:
    services: Services = request.app.state.services
    own = caller.settings.traces
    return services.settings.trace_url_template if own.endpoint is None else own.url_template


OrganizationId = Annotated[UUID, Security(_organization)]
"""As a parameter of a route: the organization whose key the request carries."""

OrganizationLimits = Annotated[Limits, Security(_limits)]
"""As a parameter of a route that enqueues: that organization's limits."""

OrganizationPrices = Annotated[PriceList, Security(_prices)]
"""As a parameter of a route: what models cost that organization."""

TraceUrlTemplate = Annotated[str | None, Security(_trace_url_template)]
"""As a parameter of a route: where that organization's traces can be looked at."""


def _unauthorized(challenge: str, detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge})
