"""Sends spans to where a tenant wants them: to public addresses only, judged by the very address that is connected to.

OpenTelemetry's own exporters connect wherever a name leads, and read the environment of the operator.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
import urllib3
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from worker.telemetry import names
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from opentelemetry.sdk.trace import ReadableSpan

log = structlog.get_logger(__name__)

_SECONDS: Final = 10.0
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LAST_GOOD_STATUS: Final = 299


class PublicSpanExporter(SpanExporter):
    """Posts spans as OTLP over HTTP. What is not taken at the first try is dropped and logged: a tenant's collector is theirs."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        organization_id: str,
        judge: Callable[[IPv4Address | IPv6Address], str | None],
    ) -> None:
        """Nothing is connected yet.

        Args:
            url: The whole URL.
            headers: Sent along.
            organization_id: Whose spans they are, for the log.
            judge: Says why an address may not be connected to, or None if it may.
        """
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self._path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        self._headers = {**headers, "content-type": "application/x-protobuf", "host": parts.netloc}
        self._organization_id = organization_id
        self._judge = judge

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some spans; called by a thread of its own."""
        try:
            status = self._post(encode_spans(spans).SerializeToString())
        except (OSError, urllib3.exceptions.HTTPError) as error:
            return self._dropped(len(spans), mask_secrets(str(error)))
        if status > _LAST_GOOD_STATUS:
            return self._dropped(len(spans), f"{self._host} answered with status {status}.")
        return SpanExportResult.SUCCESS

    def _post(self, body: bytes) -> int:
        with self._pool(self._public_address()) as pool:
            return pool.urlopen(
                "POST", self._path, body=body, headers=self._headers, retries=False, redirect=False
            ).status

    def _public_address(self) -> str:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            why = self._judge(ip_address(address))
            if why is not None:
                raise OSError(f"{self._host} is not public ({why}).")
        return addresses[0]

    def _pool(self, address: str) -> urllib3.HTTPConnectionPool:
        if self._scheme == "https":
            return urllib3.HTTPSConnectionPool(
                address,
                self._port,
                timeout=_SECONDS,
                server_hostname=self._host,
                assert_hostname=self._host,
                cert_reqs="CERT_REQUIRED",
            )
        return urllib3.HTTPConnectionPool(address, self._port, timeout=_SECONDS)

    def _dropped(self, count: int, why: str) -> SpanExportResult:
        log.warning(names.SPANS_DROPPED, count=count, error=why, organization_id=self._organization_id)
        return SpanExportResult.FAILURE
