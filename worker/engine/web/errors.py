"""What can go wrong with a request that a tenant asked for. No message holds a path, a query or a header: secrets stand there."""

from __future__ import annotations

from typing import ClassVar

from worker.errors import TurnWorkerError
from worker.workflow.web_address import HOW_TO_ALLOW


class WebError(TurnWorkerError):
    """A request got no usable answer.

    Attributes:
        sent: Whether the server may have received the request. If not, it can safely be made again.
    """

    code: ClassVar[str] = "web_request_failed"
    sent: bool = False


class InvalidWebRequest(WebError):
    """The request cannot be made as it is."""

    code = "invalid_web_request"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The request cannot be made: {self.reason}"


class AddressRefused(WebError):
    """The host leads to an address that is not public, and the organization does not allow it."""

    code = "address_refused"

    def __init__(self, host: str, why: str) -> None:
        super().__init__(host, why)
        self.host = host
        self.why = why

    def __str__(self) -> str:
        return (
            f"The request was not made: {self.host} leads to an address that is not public ({self.why}). {HOW_TO_ALLOW}"
        )


class RedirectRefused(WebError):
    """The server answered with a redirect that is not followed."""

    code = "redirect_refused"
    sent = True

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(origin, reason)
        self.origin = origin
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.origin} answered with a redirect that is not followed: {self.reason}"


class ConnectionFailed(WebError):
    """The connection could not be made, or broke."""

    code = "connection_failed"
    retryable = True

    def __init__(self, origin: str, reason: str, sent: bool) -> None:  # noqa: FBT001 -- pickling passes it by place
        super().__init__(origin, reason, sent)
        self.origin = origin
        self.reason = reason
        self.sent = sent

    def __str__(self) -> str:
        return f"{self.origin} could not be reached: {self.reason}."


class WebTimeout(WebError):
    """The whole of the request, redirects and answer included, took too long."""

    code = "web_timeout"
    retryable = True
    sent = True

    def __init__(self, origin: str, seconds: float) -> None:
        super().__init__(origin, seconds)
        self.origin = origin
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.origin} did not answer within {self.seconds:g} seconds."


class ResponseTooLarge(WebError):
    """The answer, as it came or unpacked, is larger than allowed."""

    code = "response_too_large"
    sent = True

    def __init__(self, origin: str, limit: int) -> None:
        super().__init__(origin, limit)
        self.origin = origin
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.origin} answered with more than {self.limit:,} bytes."


class ResponseUnreadable(WebError):
    """The answer is packed in a way that cannot be unpacked."""

    code = "response_unreadable"
    sent = True

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(origin, reason)
        self.origin = origin
        self.reason = reason

    def __str__(self) -> str:
        return f"The answer of {self.origin} cannot be read: {self.reason}."
