"""What can go wrong with the scripted LLM itself, and the errors it sends to its callers."""

from __future__ import annotations

from worker.embedded.errors import EmbeddedServerError
from worker.errors import TurnWorkerError


class InvalidScript(TurnWorkerError):
    """The script of a scripted LLM cannot be used; the message names every problem and its place."""

    code = "invalid_script"


class ScriptedLLMFailed(EmbeddedServerError):
    """The scripted LLM could not start, or what a test waited for did not happen in time."""

    code = "scripted_llm_failed"


class ApiError(TurnWorkerError):
    """An error reply in the words of the real API, whether a script asks for it or a request deserves it.

    Args:
        status: The HTTP status.
        message: What the caller is told.
        error_type: The API's error type. Default: the one the real API sends with the status.
        param: OpenAI only: the parameter at fault.
        error_code: OpenAI and Gemini: the machine-readable reason.
        retry_after: Seconds until the caller may try again.
    """

    code = "scripted_api_error"

    def __init__(
        self,
        status: int,
        message: str,
        error_type: str | None = None,
        *,
        param: str | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, message, error_type)
        self.status = status
        self.message = message
        self.error_type = error_type
        self.param = param
        self.error_code = error_code
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"
