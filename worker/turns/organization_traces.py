"""The spans of organizations that have a collector of their own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from worker.errors import TurnWorkerError
from worker.storage.secrets import Vault, get_secret
from worker.telemetry import names
from worker.telemetry.telemetry import END_SECONDS
from worker.workflow.organization_settings import TraceSettings
from worker.workflow.web_address import AllowedHosts, address_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Address, IPv6Address
    from uuid import UUID

    from worker.settings import Settings
    from worker.storage.database import Database
    from worker.telemetry.telemetry import Telemetry
    from worker.telemetry.traces import Traces

log = structlog.get_logger(__name__)

_MOST: Final = 32
"""Each has a thread and a queue of its own; the least recently used go first."""

_RENEWAL_SECONDS: Final = 600.0
"""After so long the secret is read again: it may have been replaced."""

_MARGIN_SECONDS: Final = 30.0
"""What a turn takes beyond its time limit, to be committed and published."""


@dataclass(slots=True, eq=False)
class _Kept:
    settings: TraceSettings
    traces: Traces | None
    until: float


class OrganizationTraces:
    """Knows where the spans of each organization go. One for each process and event loop."""

    def __init__(self, settings: Settings, database: Database, telemetry: Telemetry) -> None:
        self._service = settings.otel_service_name
        self._longest_turn_seconds = settings.turn_time_limit_seconds
        self._database = database
        self._vault = Vault(settings.secret_key)
        self._operators = telemetry.traces
        self._kept: dict[UUID, _Kept] = {}  # least recently used first
        self._connecting = asyncio.Lock()
        self._retired: dict[_Kept, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def of(self, organization_id: UUID, settings: Mapping[str, Any]) -> Traces | None:
        """Where an organization's spans go: to its own collector if it has one, else to the operator's, if there is one.

        One whose collector cannot be used sends its spans nowhere; the log says why.

        Args:
            settings: The organization's, as they are stored.
        """
        stored = settings.get("traces")
        if not stored:
            return self._operators
        wanted = TraceSettings.model_validate(stored)
        if wanted.endpoint is None:
            return self._operators
        kept = self._current(organization_id, wanted)
        if kept is None:
            async with self._connecting:  # of turns that begin together, the first connects for all
                kept = self._current(organization_id, wanted)
                if kept is None:
                    kept = await self._renew(organization_id, wanted, settings)
        return kept.traces

    async def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        for timer in self._retired.values():
            timer.cancel()
        for kept in (*self._retired, *self._kept.values()):
            self._close(kept)
        self._retired.clear()
        self._kept.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _current(self, organization_id: UUID, wanted: TraceSettings) -> _Kept | None:
        kept = self._kept.pop(organization_id, None)
        if kept is None:
            return None
        self._kept[organization_id] = kept  # now it is the most recently used
        return kept if kept.settings == wanted and time.monotonic() < kept.until else None

    async def _renew(self, organization_id: UUID, wanted: TraceSettings, settings: Mapping[str, Any]) -> _Kept:
        traces = await self._connect(organization_id, wanted, AllowedHosts.of(settings.get("allowed_hosts", ())))
        self._retire(self._kept.pop(organization_id, None))
        self._kept[organization_id] = kept = _Kept(wanted, traces, time.monotonic() + _RENEWAL_SECONDS)
        while len(self._kept) > _MOST:
            self._retire(self._kept.pop(next(iter(self._kept))))
        return kept

    def _retire(self, kept: _Kept | None) -> None:
        """Close it when every turn that began with it is over."""

        def close(retired: _Kept) -> None:
            del self._retired[retired]
            self._close(retired)

        if kept is not None:
            loop = asyncio.get_running_loop()
            self._retired[kept] = loop.call_later(self._longest_turn_seconds + _MARGIN_SECONDS, close, kept)

    async def _connect(self, organization_id: UUID, settings: TraceSettings, allowed: AllowedHosts) -> Traces | None:
        try:
            headers = await self._headers(organization_id, settings)
        except TurnWorkerError as error:
            log.warning(names.SPANS_DROPPED, organization_id=str(organization_id), error=str(error))
            return None
        from worker.telemetry import otlp  # noqa: PLC0415 -- loads OpenTelemetry's SDK
        from worker.telemetry.public_exporter import PublicSpanExporter  # noqa: PLC0415 -- likewise
        from worker.telemetry.traces import Traces  # noqa: PLC0415 -- likewise

        url = f"{str(settings.endpoint).rstrip('/')}/v1/traces"
        exporter = PublicSpanExporter(
            url, otlp.header_values(headers), organization_id=str(organization_id), judge=_judge(url, allowed)
        )
        return Traces(otlp.tracer_provider(exporter, otlp.process_resource(self._service)), content=settings.content)

    async def _headers(self, organization_id: UUID, settings: TraceSettings) -> str:
        if settings.headers_secret is None:
            return ""
        async with self._database.statement() as connection:
            return await get_secret(
                connection, self._vault, organization_id=organization_id, name=settings.headers_secret
            )

    def _close(self, kept: _Kept) -> None:
        if kept.traces is not None:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(_end, kept.traces))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _judge(url: str, allowed: AllowedHosts) -> Callable[[IPv4Address | IPv6Address], str | None]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return (lambda _: None) if allowed.permits(parts.hostname or "", port) else address_problem


def _end(traces: Traces) -> None:
    from worker.telemetry.otlp import within  # noqa: PLC0415 -- loaded already

    if not within(END_SECONDS, traces.shutdown):
        log.warning(names.TELEMETRY_LOST, seconds=END_SECONDS)
