"""The streams of AWS's SDK, and its errors in the form that the other SDKs give theirs."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.eventstream import ParserError
from botocore.exceptions import ClientError, EventStreamError, ParamValidationError
from botocore.parsers import ResponseParserError

from worker.engine.failures import LLMRequestInvalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class BedrockError(Exception):
    """An error of the API in the middle of a reply, with the attributes that `classify` reads.

    Attributes:
        message: What Bedrock says.
        body: The exception's name, by which failures are told apart, as `type`, and the message.
    """

    def __init__(self, error: ClientError) -> None:
        told = error.response.get("Error", {})
        code = told.get("Code") or ""
        # The names begin with a small letter in a stream.
        self.body = {"type": code[:1].upper() + code[1:], "message": told.get("Message")}
        self.message = told.get("Message") or "no reason given"
        super().__init__(self.message)


class BedrockStatusError(BedrockError):
    """The API answered with an error status.

    Attributes:
        status_code: The status.
        request_id: By which AWS finds the request.
        response: Its headers.
    """

    def __init__(self, error: ClientError) -> None:
        super().__init__(error)
        answer = error.response["ResponseMetadata"]
        self.status_code = answer["HTTPStatusCode"]
        self.request_id = answer.get("RequestId")
        self.response = SimpleNamespace(headers=answer["HTTPHeaders"])


async def open_stream(send: Callable[..., Awaitable[Any]], **request: Any) -> BedrockStream:
    """Send a request, and wait for the answer to begin.

    Raises:
        BedrockStatusError: The API refuses.
        LLMRequestInvalid: The SDK does: it knows what the API takes.
    """
    try:
        answer = await send(**request)
    except ClientError as error:
        raise BedrockStatusError(error) from error
    except ParamValidationError as error:
        raise LLMRequestInvalid(
            f"Amazon Bedrock cannot be sent this request. {str(error)[:500]} Check the model configuration and the "
            "definition's tools."
        ) from error
    return BedrockStream(answer["stream"])


class BedrockStream:
    """A stream that has begun."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._events = aiter(source)

    async def __anext__(self) -> Any:
        """The next event."""
        try:
            return await anext(self._events)
        except EventStreamError as error:
            raise BedrockError(error) from error
        except (ParserError, ResponseParserError) as error:
            raise ValueError(str(error)) from error

    async def close(self) -> None:
        """Close the connection, and let the SDK's generators notice: nobody else ends the inner one."""
        self._source.close()
        with suppress(Exception):
            async for _ in self._events:
                pass
