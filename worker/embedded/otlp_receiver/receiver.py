"""The servers of the stand-in, one for each protocol."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

from worker.embedded.otlp_receiver.signals import Point, ReceivedSpan, read_points, read_spans

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_SECONDS: Final = 30.0


class OtlpReceiver:
    """A collector on this machine, at `http_url` and `grpc_url` while it is entered.

    Attributes:
        spans: What came, in the order it came.
        points: The values of metrics, each time they were sent.
        headers: Of every request, its headers by lower-case name.
    """

    def __init__(self, *, answers: bool = True) -> None:
        """Nothing listens yet.

        Args:
            answers: False for one that accepts what comes and never answers.
        """
        self.spans: list[ReceivedSpan] = []
        self.points: list[Point] = []
        self.headers: list[dict[str, str]] = []
        self.http_url = ""
        self.grpc_url = ""
        self._changed = threading.Condition()
        self._answering = threading.Event()
        if answers:
            self._answering.set()

    def __enter__(self) -> Self:
        self._http = _HTTPServer(self)
        self.http_url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, name="otlp-http", daemon=True)
        self._thread.start()
        self._grpc = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="otlp-grpc"))
        trace_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._grpc)  # type: ignore[no-untyped-call] # generated
        metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._grpc)  # type: ignore[no-untyped-call] # generated
        self.grpc_url = f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answering.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._grpc.stop(grace=None).wait()

    def wait_for(self, condition: Callable[[OtlpReceiver], object]) -> None:
        """Return as soon as what was received fulfils this.

        Raises:
            TimeoutError: It did not within half a minute; the message says what came.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), _PATIENCE_SECONDS):
                raise TimeoutError(f"Received: {[span.name for span in self.spans]}")

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of this name."""
        with self._changed:
            return [span for span in self.spans if span.name == name]

    def last(self, metric: str) -> dict[tuple[tuple[str, Any], ...], Point]:
        """The latest value of a metric for each set of attributes."""
        with self._changed:
            return {tuple(sorted(point.attributes.items())): point for point in self.points if point.metric == metric}

    def take_traces(self, request: trace_service.ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        """Keep the spans of a request."""
        self._take(headers, spans=list(read_spans(request)))

    def take_metrics(self, request: metrics_service.ExportMetricsServiceRequest, headers: dict[str, str]) -> None:
        """Keep the values of a request."""
        self._take(headers, points=list(read_points(request)))

    def _take(
        self, headers: dict[str, str], spans: list[ReceivedSpan] | None = None, points: list[Point] | None = None
    ) -> None:
        with self._changed:
            self.headers.append(headers)
            self.spans += spans or []
            self.points += points or []
            self._changed.notify_all()
        self._answering.wait()


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: OtlpReceiver) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _HTTPServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/v1/traces":
            self.server.receiver.take_traces(trace_service.ExportTraceServiceRequest.FromString(body), headers)
        elif self.path == "/v1/metrics":
            self.server.receiver.take_metrics(metrics_service.ExportMetricsServiceRequest.FromString(body), headers)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Traces(trace_grpc.TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(  # noqa: N802 -- the name is the protocol's
        self, request: trace_service.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service.ExportTraceServiceResponse:
        self._receiver.take_traces(request, _metadata(context))
        return trace_service.ExportTraceServiceResponse()


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(  # noqa: N802 -- the name is the protocol's
        self, request: metrics_service.ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> metrics_service.ExportMetricsServiceResponse:
        self._receiver.take_metrics(request, _metadata(context))
        return metrics_service.ExportMetricsServiceResponse()


def _metadata(context: grpc.ServicerContext) -> dict[str, str]:
    return {str(name): str(value) for name, value in context.invocation_metadata()}
