"""A stand-in for a collector: takes OTLP over HTTP and gRPC and keeps what it gets, for tests and for a look at what is sent.

It speaks the real protocol to the real exporters; it can also refuse, or accept and never answer.
"""

from worker.embedded.otlp_receiver.receiver import OtlpReceiver
from worker.embedded.otlp_receiver.signals import Point, ReceivedSpan

__all__ = ["OtlpReceiver", "Point", "ReceivedSpan"]
