"""Where spans and metrics are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import SecretStr

    from worker.settings import Settings

Protocol = Literal["grpc", "http/protobuf"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one kind of signal is sent.

    Attributes:
        endpoint: For `http/protobuf` the whole URL; for `grpc` scheme, host and port.
        headers: As in OTEL_EXPORTER_OTLP_HEADERS: `name=value`, comma-separated, values percent-encoded.
    """

    endpoint: str
    protocol: Protocol
    headers: SecretStr | None = None

    @classmethod
    def below(cls, base: str, path: str, protocol: Protocol, headers: SecretStr | None = None) -> Destination:
        """The place of one signal below the address of a collector."""
        return cls(base if protocol == "grpc" else f"{base.rstrip('/')}/{path}", protocol, headers)

    @property
    def is_encrypted(self) -> bool:
        """Whether the way there is."""
        return self.endpoint.startswith("https://")


def traces_destination(settings: Settings) -> Destination | None:
    """Where the operator's spans go; None for nowhere."""
    return _destination(settings, settings.otlp_traces_endpoint, "v1/traces")


def metrics_destination(settings: Settings) -> Destination | None:
    """Where the operator's metrics go; None for nowhere."""
    return _destination(settings, settings.otlp_metrics_endpoint, "v1/metrics")


def _destination(settings: Settings, own: str | None, path: str) -> Destination | None:
    if settings.otel_sdk_disabled:
        return None
    if own is not None:
        return Destination(own, settings.otlp_protocol, settings.otlp_headers)
    if settings.otlp_endpoint is not None:
        return Destination.below(settings.otlp_endpoint, path, settings.otlp_protocol, settings.otlp_headers)
    return None
