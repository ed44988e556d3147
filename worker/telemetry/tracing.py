"""Spans: one trace per session, whatever process a piece of it runs in.

Each turn is a pipeline of its own and any worker may run it, so nothing hands a trace from turn to turn: its id follows from the
session's. Whoever called the API has a trace of their own, to which the spans of a turn link.

Where nobody collects, nothing here does anything, and OpenTelemetry is not loaded (`worker.telemetry.session_trace` is all
that needs it).
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from worker.telemetry import signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    Attribute: TypeAlias = str | bool | int | float | Sequence[str]

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_TRACESTATE_CHARS: Final = 512

Kind = Literal["internal", "client", "producer", "consumer"]


def session_digest(session_id: UUID | str) -> str:
    """What the ids of a session's trace and of its root are taken from."""
    return hashlib.sha256(f"text-chat:{session_id}".encode()).hexdigest()


def trace_id(session_id: UUID | str) -> str:
    """The trace of a session: 32 hexadecimal digits."""
    return session_digest(session_id)[:32]


def trace_url(template: str | None, session_id: UUID | str) -> str | None:
    """Where a session's trace can be looked at; None without a template."""
    return None if template is None else template.replace("{trace_id}", trace_id(session_id))


def trace_context(headers: Mapping[str, str]) -> dict[str, str]:
    """The W3C trace context that a request or a message carries; empty when it has none, or none that is well-formed."""
    parent = headers.get("traceparent", "")
    if not _TRACEPARENT.fullmatch(parent):
        return {}
    state = headers.get("tracestate", "")
    return {"traceparent": parent} | ({"tracestate": state} if 0 < len(state) <= _MAX_TRACESTATE_CHARS else {})


@dataclass(frozen=True, slots=True)
class TracedTurn:
    """What every span of a turn says about whose it is.

    Attributes:
        session_name: What its caller calls the session.
        attempt: The attempt at the turn; None where it is only enqueued.
    """

    organization_id: UUID
    session_id: UUID
    session_name: str | None
    turn_id: UUID
    attempt: int | None = None

    def attributes(self) -> dict[str, Attribute]:
        """As attributes of a span."""
        attributes: dict[str, Attribute] = {
            signals.CONVERSATION_ID: str(self.session_id),
            signals.CONVERSATION_TYPE: "text",
            signals.LANGFUSE_TRACE_NAME: self.session_name or f"text-chat-{self.session_id}",
            signals.ORGANIZATION_ID: str(self.organization_id),
            signals.TURN_ID: str(self.turn_id),
        }
        if self.attempt is not None:
            attributes[signals.TURN_ATTEMPT] = self.attempt
        return attributes


class Span(Protocol):
    """A piece of work under way."""

    def set(self, name: str, value: Attribute) -> None:
        """Say something about it."""
        ...

    def fail(self, code: str, message: str = "") -> None:
        """It did not succeed. The first failure counts."""
        ...

    def end(self) -> None:
        """It is over. Ending it twice does nothing more."""
        ...


class _NoSpan:
    def set(self, name: str, value: Attribute) -> None:
        pass

    def fail(self, code: str, message: str = "") -> None:
        pass

    def end(self) -> None:
        pass


NO_SPAN: Final[Span] = _NoSpan()
"""A piece of work that nobody traces."""


class Place(Protocol):
    """A point in a trace to which work done later can be added."""

    def record(
        self, name: str, *, kind: Kind, started_ns: int, attributes: Mapping[str, Attribute], error: str | None = None
    ) -> None:
        """Add work that began then and is done by now."""
        ...


class Trace(Protocol):
    """The trace that a task works in."""

    @property
    def content(self) -> bool:
        """Whether its spans may hold what was said."""
        ...

    def span(self, name: str, *, kind: Kind, attributes: Mapping[str, Attribute]) -> AbstractContextManager[Span]:
        """Do a piece of work."""
        ...

    def open_span(self, name: str, *, kind: Kind, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a piece of work that ends elsewhere."""
        ...

    def here(self) -> Place:
        """Where in the trace the task is."""
        ...

    def outgoing_context(self) -> dict[str, str]:
        """The W3C trace context of the span the task is in."""
        ...


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Let everything done inside, in whatever task it is, be part of this trace."""
    marked = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(marked)


@contextmanager
def span(name: str, *, kind: Kind = "internal", attributes: Mapping[str, Attribute] | None = None) -> Iterator[Span]:
    """Do a piece of work of the trace we are in, if we are in one. An exception that leaves it is its failure."""
    trace = _current.get()
    if trace is None:
        yield NO_SPAN
        return
    with trace.span(name, kind=kind, attributes=attributes or {}) as recorded:
        yield recorded


def open_span(name: str, *, kind: Kind = "internal", attributes: Mapping[str, Attribute] | None = None) -> Span:
    """Begin a piece of work whose end comes elsewhere: whoever gets the span ends it."""
    trace = _current.get()
    return NO_SPAN if trace is None else trace.open_span(name, kind=kind, attributes=attributes or {})


def with_content() -> bool:
    """Whether the spans of the trace we are in may hold what was said."""
    trace = _current.get()
    return trace is not None and trace.content


def outgoing_context() -> dict[str, str]:
    """The W3C trace context of the span we are in, for whoever works on behind a message; empty when we are in none."""
    trace = _current.get()
    return {} if trace is None else trace.outgoing_context()


def here() -> Place | None:
    """Where in a trace we are; None when we are in none."""
    trace = _current.get()
    return None if trace is None else trace.here()
