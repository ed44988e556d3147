"""One place that spans are sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.telemetry.otlp import SCOPE
from worker.telemetry.session_trace import SessionTrace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from worker.telemetry.tracing import TracedTurn


class Traces:
    """The operator's collector, or that of an organization."""

    def __init__(self, provider: TracerProvider, *, content: bool) -> None:
        """Begin to send.

        Args:
            content: Whether spans may hold what was said.
        """
        self._provider = provider
        self._tracer = provider.get_tracer(SCOPE)
        self._content = content

    def of(self, turn: TracedTurn) -> SessionTrace:
        """The trace of a turn's session."""
        return SessionTrace(self._tracer, turn, content=self._content)

    def shutdown(self) -> None:
        """Send what is left, however long that takes; `otlp.within` sets a limit."""
        self._provider.shutdown()
