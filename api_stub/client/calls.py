"""The requests a client can make: how each is built and how its answer is read. No I/O.

Each function here is a method of both clients, which send what it builds and return what the answer holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from json import dumps
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from api_stub import schemas, usage_schemas
from api_stub.client.errors import ApiError, error_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    import httpx

T = TypeVar("T")

MAX_WAIT_SECONDS = 30.0
"""What the API waits at most in one request."""

_UPLOAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, which may be sent again without harm: it reads, replaces or deletes, or it carries an idempotency key.

    Attributes:
        answer: Reads the body of a successful answer.
        files: Parts of a form by name: filename, content and media type, which may be empty.
        patience_seconds: How much longer than usual the answer may take.
    """

    method: str
    path: str
    answer: TypeAdapter[T]
    params: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes, str]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    patience_seconds: float = 0.0

    def read(self, response: httpx.Response) -> T:
        """What the API answered.

        Raises:
            ApiError: when it is a problem.
        """
        if response.is_success:
            return self.answer.validate_json(response.content or b"null")
        raise problem_of(response)


def problem_of(response: httpx.Response) -> ApiError:
    """The error that an answer stands for, be it the API's or that of a proxy on the way."""
    try:
        problem = schemas.ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        problem = schemas.ProblemDetails(
            type="about:blank",
            title=response.reason_phrase or "The request was refused",
            status=response.status_code,
            code="not_from_the_api",
            detail=response.text[:500],
        )
    return error_of(problem, retry_after_seconds(response))


def retry_after_seconds(response: httpx.Response) -> float | None:
    """How long the answer asks to wait before asking again, if it does so in seconds."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


_WORKFLOW = TypeAdapter(schemas.Workflow)
_WORKFLOWS = TypeAdapter(schemas.WorkflowPage)
_CREATED_SESSION = TypeAdapter(schemas.CreatedSession)
_SESSION = TypeAdapter(schemas.Session)
_SESSIONS = TypeAdapter(schemas.SessionPage)
_TRANSCRIPT = TypeAdapter(schemas.Transcript)
_WEBHOOK_DELIVERIES = TypeAdapter(schemas.WebhookDeliveries)
_TURN = TypeAdapter(schemas.Turn)
_TURNS = TypeAdapter(schemas.TurnPage)
_EVENTS = TypeAdapter(schemas.EventPage)
_USAGE = TypeAdapter(usage_schemas.Usage)
_USAGE_PAGE = TypeAdapter(usage_schemas.UsagePage)
_TOOL = TypeAdapter(schemas.Tool)
_TOOLS = TypeAdapter(schemas.ToolPage)
_CREDENTIAL = TypeAdapter(schemas.Credential)
_CREDENTIALS = TypeAdapter(schemas.CredentialPage)
_RECORDING = TypeAdapter(schemas.Recording)
_RECORDINGS = TypeAdapter(schemas.RecordingPage)
_DOCUMENT = TypeAdapter(schemas.Document)
_DOCUMENTS = TypeAdapter(schemas.DocumentPage)
_NOTHING: TypeAdapter[None] = TypeAdapter(None)


def create_workflow(
    name: str, definition: Mapping[str, Any], *, idempotency_key: str | None = None
) -> Call[schemas.Workflow]:
    """Create a workflow from its first definition.

    Args:
        definition: `{"graph": ..., "workflow_configurations": ...}`, or the bare graph that visual editors export.
    """
    return _post("/v1/workflows", _WORKFLOW, {"name": name, "definition": definition}, idempotency_key)


def put_workflow(
    workflow_id: UUID | str, definition: Mapping[str, Any], *, name: str | None = None
) -> Call[schemas.Workflow]:
    """Give a workflow its next definition; one equal to the newest changes nothing. Sessions that exist keep theirs."""
    return Call("PUT", f"/v1/workflows/{workflow_id}", _WORKFLOW, json=_given(definition=definition, name=name))


def get_workflow(workflow_id: UUID | str, *, number: int | None = None) -> Call[schemas.Workflow]:
    """Read a workflow with its newest definition, or with the one of that number."""
    return Call("GET", f"/v1/workflows/{workflow_id}", _WORKFLOW, params=_query(number=number))


def list_workflows(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.WorkflowPage]:
    """List workflows, newest first. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/workflows", _WORKFLOWS, params=_query(limit=limit, cursor=cursor))


def create_session(
    workflow_id: UUID | str,
    *,
    initial_context: Mapping[str, Any] | None = None,
    begins_with: Literal["agent", "user"] = "agent",
    external_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_busy: schemas.OnBusy | None = None,
    merge_window_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.CreatedSession]:
    """Begin a conversation. If the agent speaks first, `opening_turn` is the turn in which it does.

    Args:
        on_busy: what a further message does while a turn is pending or running; `enqueue` if not given.
        merge_window_seconds: how long a turn begun by `merge` waits for more messages.
    """
    body = _given(
        initial_context=initial_context,
        begins_with=begins_with,
        external_id=external_id,
        metadata=metadata,
        on_busy=on_busy,
        merge_window_seconds=merge_window_seconds,
    )
    return _post(f"/v1/workflows/{workflow_id}/sessions", _CREATED_SESSION, body, idempotency_key)


def get_session(session_id: UUID | str) -> Call[schemas.Session]:
    """Read a session."""
    return Call("GET", f"/v1/sessions/{session_id}", _SESSION)


def get_transcript(session_id: UUID | str) -> Call[schemas.Transcript]:
    """Read what was said in a session: who said what when, along the branch that leads to its head."""
    return Call("GET", f"/v1/sessions/{session_id}/transcript", _TRANSCRIPT)


def list_webhook_deliveries(session_id: UUID | str) -> Call[schemas.WebhookDeliveries]:
    """Read how the webhooks of the graph fare that are told of a session's end."""
    return Call("GET", f"/v1/sessions/{session_id}/webhook-deliveries", _WEBHOOK_DELIVERIES)


def list_sessions(
    *,
    state: Literal["running", "completed"] | None = None,
    workflow_id: UUID | str | None = None,
    external_id: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Call[schemas.SessionPage]:
    """List the sessions that fit every filter, newest first. Pass the page's `next_cursor` as `cursor` for what follows."""
    params = _query(state=state, workflow_id=workflow_id, external_id=external_id, limit=limit, cursor=cursor)
    return Call("GET", "/v1/sessions", _SESSIONS, params=params)


def end_session(
    session_id: UUID | str,
    *,
    reason: str | None = None,
    disposition: str | None = None,
    wait: bool = False,
    expected_revision: int | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Session]:
    """End a session. What is scheduled, pending or running in it is cancelled.

    Args:
        disposition: what came of the conversation.
        wait: let a running turn finish; until then the session's `state` is `running`, but it takes no more turns.
    """
    body = _given(reason=reason, disposition=disposition, wait=wait or None, expected_revision=expected_revision)
    return _post(f"/v1/sessions/{session_id}/end", _SESSION, body, idempotency_key)


def erase_session(session_id: UUID | str) -> Call[None]:
    """Erase a session with everything that was said in it, for good. What runs in it is cancelled; forks of it stay."""
    return Call("DELETE", f"/v1/sessions/{session_id}", _NOTHING)


def rewind_session(
    session_id: UUID | str,
    turn_id: UUID | str | None,
    *,
    expected_revision: int | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Session]:
    """Let a session go on from an earlier completed turn, or with None from its beginning."""
    body = {"turn_id": _id(turn_id), **_given(expected_revision=expected_revision)}
    return _post(f"/v1/sessions/{session_id}/rewind", _SESSION, body, idempotency_key)


def fork_session(
    session_id: UUID | str,
    turn_id: UUID | str | None = "head",
    *,
    external_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    expected_revision: int | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Session]:
    """Begin a new session with all that this one had come to after a completed turn, or with None at its beginning."""
    given = _given(external_id=external_id, metadata=metadata, expected_revision=expected_revision)
    body = given if turn_id == "head" else {"turn_id": _id(turn_id), **given}
    return _post(f"/v1/sessions/{session_id}/fork", _SESSION, body, idempotency_key)


def enqueue(
    session_id: UUID | str,
    text: str | Sequence[str],
    *,
    external_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_busy: schemas.OnBusy | None = None,
    not_before: datetime | None = None,
    expected_revision: int | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Turn]:
    """Enqueue what the user said: one text, or several that are answered together. Returns the turn, pending.

    Args:
        on_busy: what the message does while a turn is pending or running; the session's own setting if not given.
        not_before: a time with its zone; the turn is `scheduled` and takes its place in line only then.
        priority: From -10 to 10; of the organization's turns that wait for a worker, those with a higher one go first.
    """
    said = {"text": text} if isinstance(text, str) else {"messages": list(text)}
    given = _given(
        external_id=external_id,
        metadata=metadata,
        on_busy=on_busy,
        not_before=not_before and not_before.isoformat(),
        expected_revision=expected_revision,
        priority=priority,
    )
    return _post(f"/v1/sessions/{session_id}/turns", _TURN, {**said, **given}, idempotency_key)


def get_turn(turn_id: UUID | str, *, wait_seconds: float = 0.0) -> Call[schemas.Turn]:
    """Read a turn as soon as it is over, or as it is after `wait_seconds`, 30 at most. See `wait` for longer."""
    waited = min(wait_seconds, MAX_WAIT_SECONDS)
    params = {"wait": f"{waited:.3f}"} if waited > 0 else {}
    return Call("GET", f"/v1/turns/{turn_id}", _TURN, params=params, patience_seconds=waited)


def cancel_turn(
    turn_id: UUID | str,
    *,
    reason: str | None = None,
    expected_revision: int | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Turn]:
    """Call a turn off. One that was over before stays as it is: look at the `status` of what is returned."""
    body = _given(reason=reason, expected_revision=expected_revision)
    return _post(f"/v1/turns/{turn_id}/cancel", _TURN, body, idempotency_key)


def retry_turn(
    turn_id: UUID | str, *, expected_revision: int | None = None, idempotency_key: str | None = None
) -> Call[schemas.Turn]:
    """Try a failed or cancelled turn once more. Returns the new turn, pending; the user's message is not said again."""
    return _post(f"/v1/turns/{turn_id}/retry", _TURN, _given(expected_revision=expected_revision), idempotency_key)


def list_turns(session_id: UUID | str, *, limit: int = 50, cursor: str | None = None) -> Call[schemas.TurnPage]:
    """List a session's turns in the order of its line. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", f"/v1/sessions/{session_id}/turns", _TURNS, params=_query(limit=limit, cursor=cursor))


def list_events(
    *, session_id: UUID | str | None = None, turn_id: UUID | str | None = None, after: int = 0, limit: int = 100
) -> Call[schemas.EventPage]:
    """Read the log of a session, or what is in it about one turn, behind the number `after`."""
    return Call("GET", events_path(session_id, turn_id), _EVENTS, params=_query(after=after, limit=limit))


def create_tool(
    definition: Mapping[str, Any], *, tool_id: UUID | str | None = None, idempotency_key: str | None = None
) -> Call[schemas.Tool]:
    """Create a tool under the id that workflows refer to it by, or under a new one.

    Args:
        definition: `{"type": ..., "name": ..., ...}`, as the API's document describes each type.
    """
    body = {"definition": definition, **_given(id=None if tool_id is None else str(tool_id))}
    return _post("/v1/tools", _TOOL, body, idempotency_key)


def put_tool(tool_id: UUID | str, definition: Mapping[str, Any]) -> Call[schemas.Tool]:
    """Give a tool its next version; one equal to the newest changes nothing. Workflow definitions that exist keep theirs."""
    return Call("PUT", f"/v1/tools/{tool_id}", _TOOL, json={"definition": definition})


def get_tool(tool_id: UUID | str, *, version: int | None = None) -> Call[schemas.Tool]:
    """Read a tool in its newest version, or in the one of that number."""
    return Call("GET", f"/v1/tools/{tool_id}", _TOOL, params=_query(version=version))


def list_tools(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.ToolPage]:
    """List tools, newest first. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/tools", _TOOLS, params=_query(limit=limit, cursor=cursor))


def delete_tool(tool_id: UUID | str) -> Call[None]:
    """Delete a tool. Workflow definitions that use it go on as before; new ones cannot use it."""
    return Call("DELETE", f"/v1/tools/{tool_id}", _NOTHING)


def create_credential(
    name: str, credential: Mapping[str, Any], *, idempotency_key: str | None = None
) -> Call[schemas.Credential]:
    """Store a credential for tools to send.

    Args:
        credential: such as `{"kind": "bearer", "token": ...}`, as the API's document describes each kind.
    """
    return _post("/v1/credentials", _CREDENTIAL, {"name": name, "credential": credential}, idempotency_key)


def put_credential(name: str, credential: Mapping[str, Any]) -> Call[schemas.Credential]:
    """Replace a credential. Calls of tools that begin from now on send the new one."""
    return Call("PUT", f"/v1/credentials/{name}", _CREDENTIAL, json={"credential": credential})


def get_credential(name: str) -> Call[schemas.Credential]:
    """Read what may be shown of a credential."""
    return Call("GET", f"/v1/credentials/{name}", _CREDENTIAL)


def list_credentials(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.CredentialPage]:
    """List credentials in the order of their names. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/credentials", _CREDENTIALS, params=_query(limit=limit, cursor=cursor))


def delete_credential(name: str) -> Call[None]:
    """Forget a credential. Calls of tools that name it fail from now on."""
    return Call("DELETE", f"/v1/credentials/{name}", _NOTHING)


def create_recording(
    transcript: str,
    *,
    recording_id: str | None = None,
    name: str | None = None,
    url: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Recording]:
    """Register a recording by what is said in it, under the id that workflows refer to it by, or under a new one."""
    body = {"transcript": transcript, **_given(id=recording_id, name=name, url=url, metadata=metadata)}
    return _post("/v1/recordings", _RECORDING, body, idempotency_key)


def get_recording(recording_id: str) -> Call[schemas.Recording]:
    """Read a recording."""
    return Call("GET", f"/v1/recordings/{recording_id}", _RECORDING)


def list_recordings(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.RecordingPage]:
    """List recordings in the order of their ids. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/recordings", _RECORDINGS, params=_query(limit=limit, cursor=cursor))


def delete_recording(recording_id: str) -> Call[None]:
    """Forget a recording."""
    return Call("DELETE", f"/v1/recordings/{recording_id}", _NOTHING)


def upload_document(
    content: bytes | str,
    *,
    filename: str,
    media_type: str = "",
    name: str | None = None,
    language: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[schemas.Document]:
    """Upload plain text, Markdown, HTML or PDF for agents to search. See `wait_for_document` for when they can.

    Args:
        filename: its extension says what it is, unless `media_type` does.
        name: what people and agents know it by; by default, the filename.
        language: of its words, such as `english`; by default, none in particular.
    """
    return Call(
        "POST",
        "/v1/documents",
        _DOCUMENT,
        form=_given(name=name, language=language, metadata=None if metadata is None else dumps(metadata)),
        files={"file": (filename, content.encode() if isinstance(content, str) else content, media_type)},
        headers={"Idempotency-Key": idempotency_key or str(uuid4())},
        patience_seconds=_UPLOAD_SECONDS,
    )


def get_document(document_id: UUID | str, *, wait_seconds: float = 0.0) -> Call[schemas.Document]:
    """Read a document as soon as it is ready or failed, or as it is after `wait_seconds`, 30 at most."""
    waited = min(wait_seconds, MAX_WAIT_SECONDS)
    params = {"wait": f"{waited:.3f}"} if waited > 0 else {}
    return Call("GET", f"/v1/documents/{document_id}", _DOCUMENT, params=params, patience_seconds=waited)


def list_documents(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.DocumentPage]:
    """List documents, newest first. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/documents", _DOCUMENTS, params=_query(limit=limit, cursor=cursor))


def delete_document(document_id: UUID | str) -> Call[None]:
    """Delete a document. Agents find nothing of it from now on."""
    return Call("DELETE", f"/v1/documents/{document_id}", _NOTHING)


def get_usage(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    group_by: Literal["day", "model", "workflow", "session", "purpose"] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Call[usage_schemas.UsagePage]:
    """Sum up what the organization used and what it cost, by default in the last 30 days.

    Args:
        since: only calls from then on.
        until: only calls before then.
        group_by: one group for each of these, rather than one of everything.
        limit: at most so many groups.
        cursor: the `next_cursor` of the page before.
    """
    span = {"from": since and since.isoformat(), "to": until and until.isoformat()}
    return Call("GET", "/v1/usage", _USAGE_PAGE, params=_query(**span, group_by=group_by, limit=limit, cursor=cursor))


def get_session_usage(session_id: UUID | str) -> Call[usage_schemas.Usage]:
    """Sum up what a session used and what it cost."""
    return Call("GET", f"/v1/sessions/{session_id}/usage", _USAGE)


def get_turn_usage(turn_id: UUID | str) -> Call[usage_schemas.Usage]:
    """Sum up what a turn used and what it cost, all its attempts included."""
    return Call("GET", f"/v1/turns/{turn_id}/usage", _USAGE)


def events_path(session_id: UUID | str | None, turn_id: UUID | str | None) -> str:
    """Where the log is of the one of the two that is given.

    Raises:
        ValueError: when neither or both are.
    """
    if (session_id is None) == (turn_id is None):
        raise ValueError("Name either a session or a turn.")
    return f"/v1/turns/{turn_id}/events" if session_id is None else f"/v1/sessions/{session_id}/events"


def text_path(turn_id: UUID | str) -> str:
    """Where a turn's text is while it is generated."""
    return f"/v1/turns/{turn_id}/text"


def _post(path: str, answer: TypeAdapter[T], body: Mapping[str, Any], idempotency_key: str | None) -> Call[T]:
    return Call("POST", path, answer, json=body, headers={"Idempotency-Key": idempotency_key or str(uuid4())})


def _id(id_: UUID | str | None) -> str | None:
    return None if id_ is None else str(id_)


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _query(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}
