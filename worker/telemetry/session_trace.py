"""The trace of a session, with OpenTelemetry. Loaded only by a process that traces."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context as current
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.errors import TurnWorkerError
from worker.telemetry import signals
from worker.telemetry.masking import mask_secrets
from worker.telemetry.tracing import session_digest, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from worker.telemetry.tracing import Attribute, Kind, Span, TracedTurn

_PROPAGATOR = TraceContextTextMapPropagator()


class SessionTrace:
    """The trace of a session, seen from one of its turns; this is `worker.telemetry.tracing.Trace`."""

    def __init__(self, tracer: api.Tracer, turn: TracedTurn, *, content: bool) -> None:
        """Nothing is recorded yet.

        Args:
            content: Whether spans may hold what was said.
        """
        self._tracer = tracer
        self._content = content
        self._attributes = turn.attributes()
        self._root = _root(turn.session_id)

    @property
    def content(self) -> bool:
        """Whether its spans may hold what was said."""
        return self._content

    @contextmanager
    def enter(
        self, name: str, *, kind: Kind, started_ns: int, callers: Mapping[str, Mapping[str, str] | None]
    ) -> Iterator[Span]:
        """Do one of the session's first pieces of work: what happens inside becomes part of its trace.

        Args:
            started_ns: When it began, which may be before now.
            callers: W3C trace contexts that led here, by what they are; the span links to them.
        """
        started = self._start(name, kind, {}, self._root, links=_links(callers), started_ns=started_ns)
        with tracing(self), _current(started) as span:
            yield span

    @contextmanager
    def span(self, name: str, *, kind: Kind, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
        """Do a piece of work below the current one."""
        with _current(self._start(name, kind, attributes)) as span:
            yield span

    def open_span(self, name: str, *, kind: Kind, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a piece of work below the current one that ends elsewhere."""
        return RecordedSpan(self._start(name, kind, attributes))

    def record_past(self, name: str, *, seconds: float, until_ns: int) -> None:
        """Add one of the session's first pieces of work, which went on for so long until then."""
        started_ns = until_ns - int(max(seconds, 0.0) * 1e9)
        self._start(name, "internal", {}, self._root, started_ns=started_ns).end(until_ns)

    def here(self) -> SessionPlace:
        """Where in the trace the task is."""
        return SessionPlace(self, current.get_current())

    def outgoing_context(self) -> dict[str, str]:
        """The W3C trace context of the span the task is in."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier

    def _start(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Attribute],
        context: Context | None = None,
        *,
        links: Sequence[api.Link] = (),
        started_ns: int | None = None,
    ) -> api.Span:
        return self._tracer.start_span(
            name,
            context=context,
            kind=api.SpanKind[kind.upper()],
            attributes={**self._attributes, **attributes},
            links=links,
            start_time=started_ns,
        )


class SessionPlace:
    """A point in a session's trace; this is `worker.telemetry.tracing.Place`."""

    def __init__(self, trace: SessionTrace, context: Context) -> None:
        self._trace = trace
        self._context = context

    def record(
        self, name: str, *, kind: Kind, started_ns: int, attributes: Mapping[str, Attribute], error: str | None = None
    ) -> None:
        """Add work that began then and is done by now."""
        started = self._trace._start(name, kind, attributes, self._context, started_ns=started_ns)  # noqa: SLF001 -- its own half
        recorded = RecordedSpan(started)
        if error is not None:
            recorded.fail(error)
        recorded.end()


class RecordedSpan:
    """A span of OpenTelemetry's; this is `worker.telemetry.tracing.Span`."""

    def __init__(self, span: api.Span) -> None:
        self._span = span
        self._failed = False

    def set(self, name: str, value: Attribute) -> None:
        """Say something about it."""
        self._span.set_attribute(name, value)

    def fail(self, code: str, message: str = "") -> None:
        """It did not succeed. The first failure counts."""
        if not self._failed:
            self._failed = True
            self._span.set_attribute(signals.ERROR_TYPE, code)
            self._span.set_status(api.Status(api.StatusCode.ERROR, mask_secrets(message) or code))

    def end(self) -> None:
        """It is over. Ending it twice does nothing more."""
        if self._span.is_recording():
            self._span.end()


@contextmanager
def _current(started: api.Span) -> Iterator[Span]:
    attached = current.attach(api.set_span_in_context(started))
    span = RecordedSpan(started)
    try:
        yield span
    except BaseException as error:
        if isinstance(error, TurnWorkerError):
            span.fail(error.code, str(error))
        else:
            span.fail(type(error).__name__)
        raise
    finally:
        span.end()
        current.detach(attached)


def _root(session_id: UUID) -> Context:
    # The parent of a session's first spans: nobody records it, and every process knows it.
    digest = session_digest(session_id)
    parent = api.SpanContext(
        trace_id=int(digest[:32], 16),
        span_id=int(digest[32:48], 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
    )
    return api.set_span_in_context(api.NonRecordingSpan(parent), Context())


def _links(callers: Mapping[str, Mapping[str, str] | None]) -> list[api.Link]:
    links = []
    for source, carrier in callers.items():
        if carrier:
            caller = api.get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context()
            links.append(api.Link(caller, {signals.LINK_SOURCE: source}))
    return links
