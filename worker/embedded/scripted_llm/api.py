"""What the server needs of each API it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError
    from worker.embedded.scripted_llm.request import ModelRequest
    from worker.embedded.scripted_llm.script import Script


class Api(Protocol):
    """One way of asking a model and of being answered."""

    request_id_header: ClassVar[str]
    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def api_key(self, headers: Mapping[str, str]) -> str:
        """Return the caller's key, or an empty text."""
        ...

    def authenticate(self, headers: Mapping[str, str], api_key: str, script: Script) -> None:
        """Raise `ApiError` for a caller the real API does not let in."""
        ...

    def check(self, body: object, script: Script) -> None:
        """Raise `ApiError` for a body the real API refuses."""
        ...

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on."""
        ...

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:
        """Return the body of a reply that is not streamed."""
        ...

    def stream(self, answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:
        """Return a streamed reply as its chunks and its end.

        Each chunk carries one piece of content, together with the structural events that lie before it;
        the end is what tells a client that the reply is complete.
        """
        ...

    def error(self, error: ApiError, request_id: str) -> bytes:
        """Return the body of an error reply."""
        ...

    def error_headers(self, error: ApiError) -> dict[str, str]:  # noqa: ARG002 - most say it all in the body
        """Return the headers of an error reply that belong to the error."""
        return {}

    def error_event(self, error: ApiError) -> bytes:
        """Return an error as an event in mid-stream."""
        ...
