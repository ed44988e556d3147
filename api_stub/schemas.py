"""What the API answers, shared by its OpenAPI document and the client library. Needs nothing but pydantic.

Fields may be added; a client ignores those it does not know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})
"""A turn in one of these never changes again."""

OnBusy = Literal["enqueue", "reject", "interrupt", "replace", "merge"]
"""What a further message does while a turn is pending or running."""

FINAL_DOCUMENT_STATUSES = frozenset({"ready", "failed"})
"""A document in one of these is not worked on any more."""

_Item = TypeVar("_Item")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class WorkflowSummary(_Answer):
    """A workflow without its graph."""

    id: UUID
    organization_id: UUID
    name: str
    number: int = Field(description="The number of the newest definition, from 1.")
    created_at: datetime
    updated_at: datetime = Field(description="When that definition was stored.")


class Workflow(WorkflowSummary):
    """A workflow with one of its definitions, whose number is `number`."""

    definition: dict[str, Any] = Field(description="As it was sent, a bare graph wrapped as `graph`.")
    tool_pins: dict[str, int] = Field(
        description="The version of each tool that the definition was stored with and keeps, by the tool's id."
    )


class Session(_Answer):
    """One text conversation."""

    id: UUID
    organization_id: UUID
    workflow_id: UUID
    definition_number: int = Field(description="The definition it was created with and keeps to its end.")
    external_id: str | None = Field(description="Your own name for it.")
    metadata: dict[str, Any] = Field(description="Your own notes about it.")
    state: Literal["running", "completed"]
    end_reason: str | None = Field(description="Why it is over, or will be once its running turn is.")
    disposition: str | None = Field(
        description="What came of it: as whoever ended it said, or else as the agent found."
    )
    on_busy: OnBusy = Field(description="What a further message does while a turn is pending or running.")
    merge_window_seconds: float = Field(description="How long a merged turn waits for more messages.")
    forked_from_session_id: UUID | None = Field(description="The session it was forked from, which may be gone.")
    forked_from_turn_id: UUID | None = Field(description="The turn it was forked from; null for that one's beginning.")
    initial_context: dict[str, Any] = Field(description="The values it was created with, and what was fetched to them.")
    gathered_context: dict[str, Any] = Field(
        description="What the conversation has learned so far; once it has ended, with its last extraction."
    )
    current_node_id: str | None = Field(description="The node of the graph the conversation stands on.")
    head_turn_id: UUID | None = Field(description="The last completed turn, from which the next one goes on.")
    revision: int = Field(
        description="Rises with each scheduled, enqueued, merged and ended turn, with a rewind and with the end."
    )
    last_sequence: int = Field(description="The number of the last event in its log.")
    created_at: datetime
    ended_at: datetime | None


class Utterance(_Answer):
    """Something that was said."""

    role: Literal["user", "assistant"]
    text: str
    created_at: datetime = Field(description="When a user's message was enqueued, or an answer was ready.")
    turn_id: UUID
    images: list[dict[str, Any]] = Field(
        description="What a user showed with it: `url`, or `media_type` and `bytes`, the size."
    )


class Transcript(_Answer):
    """Who said what when, along the branch that leads to the session's head: what was abandoned is not part of it."""

    session_id: UUID
    data: list[Utterance] = Field(description="Oldest first.")


class WebhookDelivery(_Answer):
    """How a webhook of the graph fares that is told of the session's end."""

    node_id: str
    status: Literal["retrying", "delivered", "failed"]
    attempts: int = Field(description="How often it was sent.")
    status_code: int | None = Field(description="The status of the last answer; null if there was none.")
    error: str | None = Field(description="Why the last attempt failed.")
    attempted_at: datetime = Field(description="When the last attempt ended.")
    next_attempt_at: datetime | None = Field(description="When the next one may begin; null if there is none.")


class WebhookDeliveries(_Answer):
    """The webhooks that were told, or tried to be told, of a session's end. Those not tried yet are not among them."""

    session_id: UUID
    data: list[WebhookDelivery] = Field(description="One for each node, in the order of their ids.")


class TurnError(_Answer):
    """Why a turn, or its last attempt, failed."""

    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="For a person: what happened and what to do.")
    retryable: bool = Field(description="Whether the same turn may succeed when it is tried again.")


class Turn(_Answer):
    """One step of a conversation: what the user said, and the agent's answer to it."""

    id: UUID
    organization_id: UUID
    session_id: UUID
    session_state: Literal["running", "completed"]
    revision: int = Field(description="The session's.")
    position: int | None = Field(description="Its place in the session's line, from 1; null until its time has come.")
    parent_turn_id: UUID | None = Field(description="The turn it went on from.")
    retry_of_turn_id: UUID | None = Field(description="The failed or cancelled turn that it tries again.")
    carries_over_turn_id: UUID | None = Field(
        description="The turn in whose place it stands, retried or interrupted: what that one had begun, it goes on with."
    )
    status: Literal["scheduled", "pending", "running", "completed", "failed", "cancelled"]
    opening: bool = Field(description="The agent speaks first: there is no user message.")
    priority: int = Field(description="Among the turns of your organization that wait for a worker.")
    user_messages: list[str]
    user_images: list[dict[str, Any]] = Field(
        default_factory=list,
        description="The images that came with them: `message` is the index in `user_messages`, then `url`, or `media_type` "
        "and the size in `bytes`.",
    )
    assistant_text: str | None = Field(description="The answer; null if there is none, or none yet.")
    error: TurnError | None = Field(
        description="Why a failed or cancelled turn was not answered; for a pending or running one, why its last attempt "
        "failed."
    )
    attempt: int = Field(description="How often it was begun.")
    usage: dict[str, Any] = Field(
        description="What all its attempts used: `llm` holds token counts by `<processor>|||<model>`; `tts` and `stt` are "
        "floats by the same kind of key; `call_duration_seconds` is how long the attempt took that ended it."
    )
    external_id: str | None = Field(description="Your own name for it.")
    metadata: dict[str, Any] = Field(description="Your own notes about it.")
    created_at: datetime
    not_before: datetime | None = Field(description="When a scheduled turn takes its place in the line.")
    available_at: datetime = Field(description="It is not tried before this time.")
    first_claimed_at: datetime | None = Field(description="When a worker first took it.")
    claimed_at: datetime | None = Field(description="When a worker last took it.")
    assistant_created_at: datetime | None = Field(description="When the answer was complete.")
    ended_at: datetime | None = Field(description="When it took its final status.")

    @property
    def is_terminal(self) -> bool:
        """It is completed, failed or cancelled, and will not change again."""
        return self.status in TERMINAL_STATUSES


class CreatedSession(Session):
    """A new session and, if the agent speaks first, the turn in which it does."""

    opening_turn: Turn | None


class Event(_Answer):
    """Something that happened in a session."""

    sequence: int = Field(description="Its number in the session's log, from 1 without gaps.")
    type: str = Field(description="Such as `turn.completed`. Ignore types you do not know.")
    session_id: UUID
    turn_id: UUID | None = Field(description="The turn it is about; null if it is about the session.")
    status: str | None = Field(description="The status that the turn took on with it; null if it took on none.")
    revision: int | None = Field(description="The session's revision since then; null if the event did not raise it.")
    payload: dict[str, Any] | None = Field(
        default=None, description="The particulars. Never null in answers of the API; news over Redis carries none."
    )
    created_at: datetime


class TextUpdate(_Answer):
    """More of what the assistant says in a turn: up to `offset` all stands, from there on it is `text`."""

    type: Literal["text", "reset", "end"] = Field(
        description="`text`: more of it. `reset`: what was beyond `offset` is void. `end`: the turn is over, `text` is all."
    )
    offset: int = Field(description="A number of characters.")
    text: str
    status: str | None = Field(default=None, description="Of the turn, once it is over.")
    error: TurnError | None = Field(default=None, description="Why the turn was not answered, once it is over.")


class EventPage(_Answer):
    """A piece of a log."""

    data: list[Event]
    revision: int = Field(description="The session's.")
    finished: bool = Field(description="There are no events after these, and there will be none.")


class Tool(_Answer):
    """Something an agent can do, in one of its versions."""

    id: UUID = Field(description="What workflows refer to it by.")
    organization_id: UUID
    version: int = Field(description="The version's number, from 1.")
    definition: dict[str, Any] = Field(description="As it was sent, with every field that was left out.")
    created_at: datetime
    updated_at: datetime = Field(description="When that version was stored.")


class Credential(_Answer):
    """What tools send to prove who is asking, without what is secret in it."""

    name: str = Field(description="What tools refer to it by.")
    organization_id: UUID
    kind: Literal["bearer", "basic", "api_key_header", "custom_header"]
    created_at: datetime
    updated_at: datetime = Field(description="When it was last replaced.")


class Recording(_Answer):
    """A recording of speech, of which text conversations show the transcript."""

    id: str = Field(description="What workflows refer to it by.")
    organization_id: UUID
    transcript: str
    name: str | None
    url: str | None = Field(description="Where the audio is.")
    metadata: dict[str, Any] = Field(description="Your own notes about it.")
    created_at: datetime


class DocumentError(_Answer):
    """Why a document, or its last attempt, failed; of one that is ready, what it has to do without."""

    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="For a person: what happened and what to do.")


class Document(_Answer):
    """A document of the knowledge base, without what is in it."""

    id: UUID = Field(description="What nodes name in their `document_uuids`.")
    organization_id: UUID
    name: str = Field(description="What people and agents know it by.")
    media_type: Literal["text/plain", "text/markdown", "text/html", "application/pdf"]
    language: str = Field(description="How its words are read.")
    size_bytes: int
    metadata: dict[str, Any] = Field(description="Your own notes about it.")
    status: Literal["pending", "processing", "ready", "failed"] = Field(
        description="Agents find it once it is `ready`. `ready` and `failed` do not change any more."
    )
    error: DocumentError | None
    chunks_total: int | None = Field(description="The pieces it was cut into; null until it was read.")
    chunks_done: int = Field(description="Those that are stored already.")
    created_at: datetime
    ended_at: datetime | None = Field(description="When it became ready or failed.")

    @property
    def is_final(self) -> bool:
        """It is ready or failed, and not worked on any more."""
        return self.status in FINAL_DOCUMENT_STATUSES


class Page(_Answer, Generic[_Item]):
    """A piece of a list."""

    data: list[_Item]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get what follows; null at the end.")


class WorkflowPage(Page[WorkflowSummary]):
    """A piece of the list of workflows."""


class SessionPage(Page[Session]):
    """A piece of the list of sessions."""


class TurnPage(Page[Turn]):
    """A piece of the list of a session's turns."""

    revision: int = Field(description="The session's.")


class ToolPage(Page[Tool]):
    """A piece of the list of tools."""


class CredentialPage(Page[Credential]):
    """A piece of the list of credentials."""


class DocumentPage(Page[Document]):
    """A piece of the list of documents."""


class RecordingPage(Page[Recording]):
    """A piece of the list of recordings."""


class ProblemDetails(_Answer):
    """RFC 9457. Some problems have further members; `GET` the `type` to read about it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str


class ProblemExplanation(_Answer):
    """What a type of problem means."""

    type: str
    code: str
    status: int
    title: str
    explanation: str = Field(description="What it means and what to do about it.")


class ProblemExplanations(_Answer):
    """Every type of problem."""

    data: list[ProblemExplanation]


class Liveness(_Answer):
    """The process answers."""

    status: Literal["alive"]


class Dependency(_Answer):
    """One of the servers the API uses."""

    state: Literal["up", "down"]
    needed: bool = Field(description="Whether the API is of no use without it.")
    detail: str | None = Field(description="What is wrong with it.")


class Readiness(_Answer):
    """Whether requests can be answered. `degraded`: they can, but news and work travel late."""

    status: Literal["ready", "degraded", "unavailable"]
    dependencies: dict[str, Dependency]
