"""What happened during a turn, in the order it happened: the events of the engine's contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 -- pydantic reads the annotations where events come back from a journal
from typing import TYPE_CHECKING

from pydantic import JsonValue  # noqa: TC002 -- the same

if TYPE_CHECKING:
    from worker.workflow.definition import ConversationNode

NODE_TRANSITION = "node_transition"
TOOL_CALL_STARTED = "tool_call_started"
TOOL_CALL_RESULT = "tool_call_result"
SESSION_END = "session_end"
SESSION_CANCELLED = "session_cancelled"
"""The session was ended from outside while the turn ran. It is recorded by whoever ends the session, since the turn can write
nothing any more; never when a worker stops the turn for reasons of its own. Payload: `reason`."""

EXECUTION_ERROR = "execution_error"

REPLY_STOPPED_EARLY = "reply_stopped_early"
"""The model stopped before it was done. Payload: `reason` (`max_tokens`, `refusal`, ...), `detail`."""

HAND_OVER = "hand_over"
RECORDING_MISSING = "recording_missing"
"""A recording that the definition, the session or the model names is not there. Payload: `recording_id`."""

TOOLS_UNAVAILABLE = "tools_unavailable"
"""A server could not be asked for its tools, or lacks some that a node names. Payload: `server`, `message`."""

RETRIEVAL_DEGRADED = "retrieval_degraded"
"""The knowledge base was searched by words alone, because there was no vector of the question. Payload: `reason`."""

VARIABLES_EXTRACTED = "variables_extracted"
"""A node was left, or the session ends on it, and the model was asked for its variables. Payload: `node_id`, `node_name`,
`variables` (what it knew, by name), `unknown` (names) and `rejected` (`name`, `value` as JSON text, `reason`)."""

VARIABLE_EXTRACTION_FAILED = "variable_extraction_failed"
"""That came to nothing; the conversation goes on without. Payload: `node_id`, `node_name`, `code`, `message`."""

CONTEXT_COMPACTED = "context_compacted"
"""What was said before this turn was replaced by a summary. Payload: `messages` (how many), `characters_before`,
`characters_after`."""

CONTEXT_COMPACTION_FAILED = "context_compaction_failed"
"""That came to nothing; the whole context is kept. Payload: `code`, `message`."""

MODEL_FALLBACK = "model_fallback"
"""The model failed and another was asked in its place. Payload: `code`, `message`, `llm_provider`, `llm_model`."""

PRE_CALL_FETCH = "pre_call_fetch"
"""Further initial context was fetched before the opening. Payload: `status` (`success`, `error`), `names` of what was found,
`message` of what went wrong."""


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """One thing that happened during a turn.

    Attributes:
        type: What happened; one of this module's constants or a further type the engine documents.
        created_at: When, with its time zone.
        payload: The particulars, as JSON.
    """

    type: str
    created_at: datetime
    payload: dict[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("An event's time needs its time zone; got a naive datetime.")

    def to_json(self) -> dict[str, JsonValue]:
        """Write it down, the time in ISO 8601."""
        return {"type": self.type, "created_at": self.created_at.isoformat(), "payload": self.payload}


def node_transition(created_at: datetime, *, node: ConversationNode, previous: ConversationNode | None) -> TurnEvent:
    """The conversation moved to a node; previous is None when it stood on none."""
    return TurnEvent(
        NODE_TRANSITION,
        created_at,
        {
            "node_id": node.id,
            "node_name": node.name,
            "previous_node_id": previous.id if previous else None,
            "previous_node_name": previous.name if previous else None,
            "allow_interrupt": node.data.allow_interrupt,
        },
    )


def tool_call_started(
    created_at: datetime, *, function_name: str, tool_call_id: str, arguments: JsonValue, repeated: bool = False
) -> TurnEvent:
    """The model called a tool; or, repeated, a call whose end is not known is made once more under the same key."""
    payload: dict[str, JsonValue] = {
        "function_name": function_name,
        "tool_call_id": tool_call_id,
        "arguments": arguments,
    }
    if repeated:
        payload["repeated"] = True
    return TurnEvent(TOOL_CALL_STARTED, created_at, payload)


def tool_call_result(created_at: datetime, *, function_name: str, tool_call_id: str, result: JsonValue) -> TurnEvent:
    """A tool answered."""
    return TurnEvent(
        TOOL_CALL_RESULT,
        created_at,
        {"function_name": function_name, "tool_call_id": tool_call_id, "result": result},
    )


def session_end(created_at: datetime, *, reason: str) -> TurnEvent:
    """The session is over."""
    return TurnEvent(SESSION_END, created_at, {"reason": reason})


def hand_over(created_at: datetime, *, reason: str, destination: str, summary: str) -> TurnEvent:
    """A person is to take over: another service acts on this."""
    return TurnEvent(HAND_OVER, created_at, {"reason": reason, "destination": destination, "summary": summary})


def execution_error(created_at: datetime, *, code: str, message: str) -> TurnEvent:
    """The turn's execution failed, with a stable code and a message an operator can act on."""
    return TurnEvent(EXECUTION_ERROR, created_at, {"code": code, "message": message})


def reply_stopped_early(created_at: datetime, *, reason: str, detail: str | None) -> TurnEvent:
    """The model stopped before it was done."""
    return TurnEvent(REPLY_STOPPED_EARLY, created_at, {"reason": reason, "detail": detail})


def recording_missing(created_at: datetime, *, recording_id: str) -> TurnEvent:
    """There is no such recording."""
    return TurnEvent(RECORDING_MISSING, created_at, {"recording_id": recording_id})


def retrieval_degraded(created_at: datetime, *, reason: str) -> TurnEvent:
    """The knowledge base was searched, and not as well as it could have been."""
    return TurnEvent(RETRIEVAL_DEGRADED, created_at, {"reason": reason})


def tools_unavailable(created_at: datetime, *, server: str, message: str) -> TurnEvent:
    """Tools that a node should carry are not there; the conversation goes on without them."""
    return TurnEvent(TOOLS_UNAVAILABLE, created_at, {"server": server, "message": message})


def variables_extracted(
    created_at: datetime,
    *,
    node: ConversationNode,
    variables: dict[str, JsonValue],
    unknown: list[str],
    rejected: list[dict[str, str]],
) -> TurnEvent:
    """The model was asked for a node's variables."""
    return TurnEvent(
        VARIABLES_EXTRACTED,
        created_at,
        {
            "node_id": node.id,
            "node_name": node.name,
            "variables": variables,
            "unknown": [*unknown],
            "rejected": [{**entry} for entry in rejected],
        },
    )


def variable_extraction_failed(created_at: datetime, *, node: ConversationNode, code: str, message: str) -> TurnEvent:
    """A node's variables could not be extracted."""
    return TurnEvent(
        VARIABLE_EXTRACTION_FAILED,
        created_at,
        {"node_id": node.id, "node_name": node.name, "code": code, "message": message},
    )


def context_compacted(
    created_at: datetime, *, messages: int, characters_before: int, characters_after: int
) -> TurnEvent:
    """The older context was replaced by a summary."""
    return TurnEvent(
        CONTEXT_COMPACTED,
        created_at,
        {"messages": messages, "characters_before": characters_before, "characters_after": characters_after},
    )


def context_compaction_failed(created_at: datetime, *, code: str, message: str) -> TurnEvent:
    """The older context could not be summarised."""
    return TurnEvent(CONTEXT_COMPACTION_FAILED, created_at, {"code": code, "message": message})


def model_fallback(created_at: datetime, *, code: str, message: str, llm_provider: str, llm_model: str) -> TurnEvent:
    """The model failed with this code and message, and the one that is named was asked in its place."""
    payload: dict[str, JsonValue] = {
        "code": code,
        "message": message,
        "llm_provider": llm_provider,
        "llm_model": llm_model,
    }
    return TurnEvent(MODEL_FALLBACK, created_at, payload)
