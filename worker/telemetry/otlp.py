"""OpenTelemetry's SDK, set up for this program. Loaded only by a process that sends or shows something."""

from __future__ import annotations

import os
import socket
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.re import parse_env_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter
    from prometheus_client import CollectorRegistry

    from worker.telemetry.destination import Destination

SCOPE: Final = "pipecat-turn-worker"
"""The instrumentation scope of everything this program reports."""

_QUEUE_SPANS: Final = 2048
_BATCH_SPANS: Final = 512
_EXPORT_SECONDS: Final = 10.0
_METRICS_INTERVAL_SECONDS: Final = 15.0


def process_resource(service: str) -> Resource:
    """What every signal says about the process it comes from, beside what OTEL_RESOURCE_ATTRIBUTES adds."""
    return Resource.create(
        {
            SERVICE_NAME: service,
            SERVICE_VERSION: version("pipecat-turn-worker"),
            SERVICE_INSTANCE_ID: f"{socket.gethostname()}/{os.getpid()}",
        }
    )


def tracer_provider(exporter: SpanExporter, resource: Resource) -> TracerProvider:
    """Send spans in batches, from a thread of their own. What a full queue cannot hold is dropped: a turn never waits."""
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS, max_export_batch_size=_BATCH_SPANS)
    )
    return provider


def meter_provider(readers: Sequence[MetricReader], resource: Resource) -> MeterProvider:
    """Collect metrics for these readers."""
    return MeterProvider(readers, resource=resource, shutdown_on_exit=False)


def periodic_reader(destination: Destination) -> MetricReader:
    """Send metrics every now and then, from a thread of their own."""
    return PeriodicExportingMetricReader(
        _metric_exporter(destination),
        export_interval_millis=_METRICS_INTERVAL_SECONDS * 1000,
        export_timeout_millis=_EXPORT_SECONDS * 1000,
    )


def prometheus_reader() -> tuple[CollectorRegistry, MetricReader]:
    """What Prometheus asks for the metrics, and the reader that collects them for it."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 -- only for who is scraped
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 -- likewise

    registry = CollectorRegistry()
    return registry, PrometheusMetricReader(registry=registry, scope_info_enabled=False)


def span_exporter(destination: Destination) -> SpanExporter:
    """What sends spans there. Its protocol is loaded when it is first wanted: gRPC takes a while."""
    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 -- see above
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(
            endpoint=destination.endpoint,
            insecure=not destination.is_encrypted,
            headers=_headers(destination),
            timeout=_EXPORT_SECONDS,
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 -- see above

    return OTLPSpanExporter(endpoint=destination.endpoint, headers=_headers(destination), timeout=_EXPORT_SECONDS)


def _metric_exporter(destination: Destination) -> MetricExporter:
    if destination.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415 -- see above
            OTLPMetricExporter as GrpcExporter,
        )

        return GrpcExporter(
            endpoint=destination.endpoint,
            insecure=not destination.is_encrypted,
            headers=_headers(destination),
            timeout=_EXPORT_SECONDS,
        )
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 -- see above

    return OTLPMetricExporter(endpoint=destination.endpoint, headers=_headers(destination), timeout=_EXPORT_SECONDS)


def header_values(headers: str) -> dict[str, str]:
    """Headers written as in OTEL_EXPORTER_OTLP_HEADERS, by name."""
    return dict(parse_env_headers(headers, liberal=True))


def _headers(destination: Destination) -> dict[str, str]:
    return header_values(destination.headers.get_secret_value() if destination.headers is not None else "")


def within(seconds: float, *endings: Callable[[], object]) -> bool:
    """Bring things to their end side by side, and wait no longer than that; False when one is not done by then.

    A collector that accepts and never answers holds an exporter for longer than a process has when it stops.
    """
    threads = [threading.Thread(target=ending, name="telemetry-end", daemon=True) for ending in endings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds / len(threads))
    return not any(thread.is_alive() for thread in threads)
