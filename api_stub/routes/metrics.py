"""What Prometheus asks for."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response

from api_stub.services import Shared

router = APIRouter(tags=["health"])

_MEDIA_TYPE: Final = "text/plain"
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "In Prometheus's text format.",
        "content": {_MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


@router.get("/metrics", response_class=Response, responses=_RESPONSES)
async def metrics(services: Shared) -> Response:
    """Show the metrics of this process, and what waits in the whole system.

    They say nothing about tenants but the names of their models.
    """
    await services.queue_watch.look()
    return Response(services.telemetry.page(), media_type=f"{_MEDIA_TYPE}; version=0.0.4; charset=utf-8")
