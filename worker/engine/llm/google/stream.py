"""The streams of Google's SDK, and its errors in the form that the other SDKs give theirs."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from google.genai.errors import APIError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from google.genai.types import GenerateContentResponse

_END: Final = object()
_REJECTED_KEY: Final = "API_KEY_INVALID"


class GoogleError(Exception):
    """An error of the API in the middle of a reply, with the attributes that `classify` reads.

    Attributes:
        message: What Google says.
        body: The reason, by which failures are told apart, as `type`, and the message.
    """

    def __init__(self, error: APIError) -> None:
        details = list(_details(error))
        rejected_key = any(detail.get("reason") == _REJECTED_KEY for detail in details)
        self.message = error.message or str(error.status)
        self.body = {"type": _REJECTED_KEY if rejected_key else error.status, "message": self.message}
        self._retry_delay = next((detail["retryDelay"] for detail in details if "retryDelay" in detail), None)
        super().__init__(self.message)


class GoogleStatusError(GoogleError):
    """The API answered with an error status.

    Attributes:
        status_code: The status.
        request_id: Google names none.
        response: Its headers, with the delay that Google asks for in the body.
    """

    request_id = None

    def __init__(self, error: APIError) -> None:
        super().__init__(error)
        self.status_code = error.code
        headers = dict(getattr(error.response, "headers", None) or {})
        if isinstance(self._retry_delay, str):
            headers["retry-after"] = self._retry_delay.removesuffix("s")
        self.response = SimpleNamespace(headers=headers)


async def open_stream(
    send: Callable[..., Awaitable[AsyncIterator[GenerateContentResponse]]], **request: Any
) -> GoogleStream:
    """Send a request, and wait for the answer to begin: the SDK sends none before somebody reads.

    Raises:
        GoogleStatusError: The API refuses.
    """
    source = await send(**request)
    try:
        first = await anext(source, _END)
    except APIError as error:
        raise GoogleStatusError(error) from error
    return GoogleStream(source, first)


class GoogleStream:
    """A stream that has begun."""

    def __init__(self, source: Any, first: Any) -> None:
        self._source = source
        self._first = first

    async def __anext__(self) -> Any:
        """The next chunk."""
        chunk, self._first = self._first, None
        if chunk is None:
            try:
                return await anext(self._source)
            except APIError as error:
                raise GoogleError(error) from error
        if chunk is _END:
            raise StopAsyncIteration
        return chunk

    async def close(self) -> None:
        """Stop reading, and close the connection under it."""
        await self._source.aclose()


def _details(error: APIError) -> Iterator[Mapping[str, Any]]:
    """The details of an error: https://cloud.google.com/apis/design/errors#error_details."""
    body = error.details
    inner = body.get("error") if isinstance(body, Mapping) else None
    details = inner.get("details") if isinstance(inner, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            yield detail
