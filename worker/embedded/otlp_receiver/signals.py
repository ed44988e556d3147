"""What a collector received, in plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span.

    Attributes:
        trace_id: 32 hexadecimal digits.
        parent_id: 16 hexadecimal digits; empty for none.
        links: `(trace id, span id, attributes)` of each link.
        error: The description of its error; None when it has none.
        resource: What is said of the process it comes from.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str, Mapping[str, Any]], ...]
    error: str | None
    resource: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a metric, as it stood when it was sent.

    Attributes:
        value: Of a histogram, the sum.
        count: Of a histogram, how many values there were; else 1.
    """

    metric: str
    unit: str
    attributes: Mapping[str, Any]
    value: float
    count: int


def read_spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    """The spans of a request."""
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=_KINDS[span.kind],
                    started_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    links=tuple(
                        (link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes)) for link in span.links
                    ),
                    error=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
                    resource=resource,
                )


def read_points(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    """The values of a request."""
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield from _points(metric)


def _points(metric: Metric) -> Iterator[Point]:
    for point in (*metric.sum.data_points, *metric.gauge.data_points):
        value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        yield Point(metric.name, metric.unit, _attributes(point.attributes), value, 1)
    for histogram in metric.histogram.data_points:
        yield Point(metric.name, metric.unit, _attributes(histogram.attributes), histogram.sum, histogram.count)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case None:
            return None
        case kind:
            return getattr(value, kind)
