"""What one process reports of itself: where its spans go, what it counts, and how that ends."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from worker.errors import TurnWorkerError
from worker.telemetry import names, signals, tracing
from worker.telemetry.destination import metrics_destination, traces_destination
from worker.telemetry.observed import NOBODY, TurnObserved, observing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from wsgiref.simple_server import WSGIServer

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from prometheus_client import CollectorRegistry

    from worker.settings import Settings
    from worker.telemetry.metrics import Metrics
    from worker.telemetry.traces import Traces
    from worker.telemetry.tracing import TracedTurn

log = structlog.get_logger(__name__)

END_SECONDS: Final = 3.0
"""How long the end of a process waits for its last spans and metrics to go out."""


class MetricsPortUnavailable(TurnWorkerError):
    """A worker cannot show its metrics where it was told to."""

    code = "metrics_port_unavailable"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host = host
        self.port = port
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"The worker cannot show its metrics on {self.host}:{self.port}: {self.reason}. Each worker process of a machine "
            "needs a TURN_WORKER_METRICS_PORT of its own; 0 shows none."
        )


class Telemetry:
    """The spans and metrics of one process. Close it last: what others still report goes out with it.

    Attributes:
        traces: The operator's collector; None for none.
        metrics: Where to count; None when nobody collects.
    """

    def __init__(
        self,
        *,
        traces: Traces | None = None,
        meters: MeterProvider | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Put it together; `Telemetry.start` does so by the settings.

        Args:
            registry: Where Prometheus finds the metrics.
        """
        self.traces = traces
        self.metrics: Metrics | None = None if meters is None else _metrics(meters)
        self._meters = meters
        self._registry = registry
        self._server: WSGIServer | None = None

    @classmethod
    def start(cls, settings: Settings, *, scraped: bool) -> Telemetry:
        """Begin to report as the settings say. OpenTelemetry's SDK is loaded only if they say anything.

        Args:
            scraped: Whether Prometheus can ask this process for its metrics.
        """
        traces_to, metrics_to = traces_destination(settings), metrics_destination(settings)
        if traces_to is None and metrics_to is None and not scraped:
            return cls()
        from worker.telemetry import otlp  # noqa: PLC0415 -- loads OpenTelemetry's SDK
        from worker.telemetry.traces import Traces  # noqa: PLC0415 -- likewise

        resource = otlp.process_resource(settings.otel_service_name)
        traces = None
        if traces_to is not None:
            provider = otlp.tracer_provider(otlp.span_exporter(traces_to), resource)
            traces = Traces(provider, content=settings.trace_content)
        readers: list[MetricReader] = [otlp.periodic_reader(metrics_to)] if metrics_to else []
        registry = None
        if scraped:
            registry, reader = otlp.prometheus_reader()
            readers.append(reader)
        return cls(
            traces=traces,
            meters=otlp.meter_provider(readers, resource) if readers else None,
            registry=registry,
        )

    def page(self) -> bytes:
        """The metrics as Prometheus reads them."""
        from prometheus_client import generate_latest  # noqa: PLC0415 -- only for who is asked

        return b"" if self._registry is None else generate_latest(self._registry)

    def serve(self, host: str, port: int) -> None:
        """Show the metrics to Prometheus, from a thread of their own, until the end of the process.

        Raises:
            MetricsPortUnavailable: when something else listens there, or there is no such address.
        """
        from prometheus_client import start_http_server  # noqa: PLC0415 -- only for who is asked

        if self._registry is None:
            raise AssertionError("who serves is scraped")
        try:
            self._server, _ = start_http_server(port, host, self._registry)
        except OSError as error:
            raise MetricsPortUnavailable(host, port, error.strerror or str(error)) from error

    @contextmanager
    def turn(
        self,
        turn: TracedTurn,
        *,
        traces: Traces | None,
        started_ns: int,
        waited_seconds: float | None,
        callers: Mapping[str, Mapping[str, str] | None],
    ) -> Iterator[TurnObserved]:
        """Observe an attempt at a turn.

        Args:
            traces: Where its spans go; None for nowhere.
            started_ns: When the claim began.
            waited_seconds: How long the turn had waited; None for one taken over from a lost worker.
            callers: The trace contexts that led here: `caller` asked for the turn, `ring` told of it.
        """
        if traces is None and self.metrics is None:
            yield NOBODY
            return
        if self.metrics is not None:
            self.metrics.turn_began(waited_seconds)
        with ExitStack() as stack:
            span = tracing.NO_SPAN
            if traces is not None:
                trace = traces.of(turn)
                if waited_seconds is not None:
                    trace.record_past(signals.SPAN_QUEUE_WAIT, seconds=waited_seconds, until_ns=started_ns)
                span = stack.enter_context(
                    trace.enter(signals.SPAN_TURN, kind="consumer", started_ns=started_ns, callers=callers)
                )
            yield stack.enter_context(observing(TurnObserved(span, self.metrics)))

    @contextmanager
    def enqueued(
        self, turn: TracedTurn, *, traces: Traces | None, started_ns: int, caller: Mapping[str, str] | None
    ) -> Iterator[None]:
        """A turn was just stored; whoever is told of it inside can link to its span.

        Args:
            traces: Where its span goes; None for nowhere.
            started_ns: When the request came.
            caller: The trace context of who asked for it.
        """
        if self.metrics is not None:
            self.metrics.turn_enqueued()
        if traces is None:
            yield
            return
        with traces.of(turn).enter(
            signals.SPAN_ENQUEUE, kind="producer", started_ns=started_ns, callers={"caller": caller}
        ):
            yield

    def close(self) -> None:
        """Send what is left, and wait a few seconds for that at most: a collector that is away must not hold up an end."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        endings = [each.shutdown for each in (self.traces, self._meters) if each is not None]
        if not endings:
            return
        from worker.telemetry import otlp  # noqa: PLC0415 -- loaded already

        if not otlp.within(END_SECONDS, *endings):
            log.warning(names.TELEMETRY_LOST, seconds=END_SECONDS)


def _metrics(provider: MeterProvider) -> Metrics:
    from worker.telemetry.metrics import Metrics  # noqa: PLC0415 -- of use only to who collects
    from worker.telemetry.otlp import SCOPE  # noqa: PLC0415 -- loaded already

    return Metrics(provider.get_meter(SCOPE))
