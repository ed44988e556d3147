"""The requests a client can make about conversations: how each is built and how its answer is read. No I/O.

Each function here is a method of both clients, which send what it builds and return what the answer holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from api_stub import schemas, usage_schemas
from api_stub.client.call import MAX_WAIT_SECONDS, Call, id_text, post, query, without_none

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

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
_NOTHING: TypeAdapter[None] = TypeAdapter(None)


def create_workflow(
    name: str, definition: Mapping[str, Any], *, idempotency_key: str | None = None
) -> Call[schemas.Workflow]:
    """Create a workflow from its first definition.

    Args:
        definition: `{"graph": ..., "workflow_configurations": ...}`, or the bare graph that visual editors export.
    """
    return post("/v1/workflows", _WORKFLOW, {"name": name, "definition": definition}, idempotency_key)


def put_workflow(
    workflow_id: UUID | str, definition: Mapping[str, Any], *, name: str | None = None
) -> Call[schemas.Workflow]:
    """Give a workflow its next definition; one equal to the newest changes nothing. Sessions that exist keep theirs."""
    return Call("PUT", f"/v1/workflows/{workflow_id}", _WORKFLOW, json=without_none(definition=definition, name=name))


def get_workflow(workflow_id: UUID | str, *, number: int | None = None) -> Call[schemas.Workflow]:
    """Read a workflow with its newest definition, or with the one of that number."""
    return Call("GET", f"/v1/workflows/{workflow_id}", _WORKFLOW, params=query(number=number))


def list_workflows(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.WorkflowPage]:
    """List workflows, newest first. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/workflows", _WORKFLOWS, params=query(limit=limit, cursor=cursor))


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
    body = without_none(
        initial_context=initial_context,
        begins_with=begins_with,
        external_id=external_id,
        metadata=metadata,
        on_busy=on_busy,
        merge_window_seconds=merge_window_seconds,
    )
    return post(f"/v1/workflows/{workflow_id}/sessions", _CREATED_SESSION, body, idempotency_key)


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
    params = query(state=state, workflow_id=workflow_id, external_id=external_id, limit=limit, cursor=cursor)
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
    body = without_none(reason=reason, disposition=disposition, wait=wait or None, expected_revision=expected_revision)
    return post(f"/v1/sessions/{session_id}/end", _SESSION, body, idempotency_key)


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
    body = {"turn_id": id_text(turn_id), **without_none(expected_revision=expected_revision)}
    return post(f"/v1/sessions/{session_id}/rewind", _SESSION, body, idempotency_key)


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
    given = without_none(external_id=external_id, metadata=metadata, expected_revision=expected_revision)
    body = given if turn_id == "head" else {"turn_id": id_text(turn_id), **given}
    return post(f"/v1/sessions/{session_id}/fork", _SESSION, body, idempotency_key)


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
    given = without_none(
        external_id=external_id,
        metadata=metadata,
        on_busy=on_busy,
        not_before=not_before and not_before.isoformat(),
        expected_revision=expected_revision,
        priority=priority,
    )
    return post(f"/v1/sessions/{session_id}/turns", _TURN, {**said, **given}, idempotency_key)


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
    body = without_none(reason=reason, expected_revision=expected_revision)
    return post(f"/v1/turns/{turn_id}/cancel", _TURN, body, idempotency_key)


def retry_turn(
    turn_id: UUID | str, *, expected_revision: int | None = None, idempotency_key: str | None = None
) -> Call[schemas.Turn]:
    """Try a failed or cancelled turn once more. Returns the new turn, pending; the user's message is not said again."""
    return post(f"/v1/turns/{turn_id}/retry", _TURN, without_none(expected_revision=expected_revision), idempotency_key)


def list_turns(session_id: UUID | str, *, limit: int = 50, cursor: str | None = None) -> Call[schemas.TurnPage]:
    """List a session's turns in the order of its line. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", f"/v1/sessions/{session_id}/turns", _TURNS, params=query(limit=limit, cursor=cursor))


def list_events(
    *, session_id: UUID | str | None = None, turn_id: UUID | str | None = None, after: int = 0, limit: int = 100
) -> Call[schemas.EventPage]:
    """Read the log of a session, or what is in it about one turn, behind the number `after`."""
    return Call("GET", events_path(session_id, turn_id), _EVENTS, params=query(after=after, limit=limit))


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
    return Call("GET", "/v1/usage", _USAGE_PAGE, params=query(**span, group_by=group_by, limit=limit, cursor=cursor))


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
