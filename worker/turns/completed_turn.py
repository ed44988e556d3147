"""What an attempt came to, in the form in which it is stored. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.conversation.event import SESSION_END
from worker.conversation.history import context_delta
from worker.errors import TurnWorkerError
from worker.storage.attempts import Completion
from worker.storage.outbox import NewEvent
from worker.telemetry.masking import mask_secrets
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.engine.outcome import TurnOutcome
    from worker.storage.claim import Attempt
    from worker.turns.loading import LoadedTurn

_TURN_PREFIX: Final = "turn."
_SESSION_PREFIX: Final = "session."


def completion_of(loaded: LoadedTurn, outcome: TurnOutcome) -> Completion:
    """Everything that a completed turn leaves behind."""
    request = loaded.request
    checkpoint = outcome.checkpoint.to_json()
    del checkpoint["messages"]
    delta = context_delta(request.checkpoint.messages, outcome.checkpoint.messages)
    initial_context = dict(outcome.initial_context)
    return Completion(
        assistant_text=None if outcome.assistant_text is None else storable_text(outcome.assistant_text),
        assistant_created_at=outcome.assistant_created_at,
        checkpoint=checkpoint,
        messages=delta.messages,
        replaces_context=delta.replaces,
        initial_context=initial_context if initial_context != request.initial_context else None,
        end_reason=_end_reason(outcome) if outcome.completed else None,
        events=new_events(loaded.claimed.attempt, outcome.events),
    )


def new_events(attempt: Attempt, events: Iterable[TurnEvent]) -> list[NewEvent]:
    """Events of the engine as the session's log has them."""
    return [
        NewEvent(_TURN_PREFIX + event.type, attempt.turn_id, event.payload, created_at=event.created_at)
        for event in events
    ]


def session_events(events: Iterable[TurnEvent]) -> list[NewEvent]:
    """Events of the engine that come after the last turn: they are the session's own."""
    return [
        NewEvent(_SESSION_PREFIX + event.type, None, event.payload, created_at=event.created_at) for event in events
    ]


def described(error: TurnWorkerError) -> dict[str, JsonValue]:
    """An error as the API shows it, secrets masked."""
    return {"code": error.code, "message": mask_secrets(str(error)), "retryable": error.retryable}


def defect(error: BaseException) -> TurnWorkerError:
    """What is told of an error that nobody foresaw."""
    return TurnWorkerError(
        f"The turn ran into a defect of this program ({type(error).__name__}). "
        "The worker's log has the traceback under the turn's id; please report it."
    )


def reference(attempt: Attempt) -> TurnReference:
    """The turn of an attempt, as a message of the queue names it."""
    return TurnReference(attempt.organization_id, attempt.turn_id)


def storable_text(text: str) -> str:
    """Text that somebody else wrote, as PostgreSQL can hold it: neither NUL nor half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _end_reason(outcome: TurnOutcome) -> str:
    reasons = [event.payload["reason"] for event in outcome.events if event.type == SESSION_END]
    return str(reasons[-1])
