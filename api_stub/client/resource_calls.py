"""The requests a client can make about what agents use: tools, credentials, recordings and documents. No I/O.

Each function here is a method of both clients, as those of `api_stub.client.calls` are.
"""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import TypeAdapter

from api_stub import schemas
from api_stub.client.call import MAX_WAIT_SECONDS, Call, post, query, without_none

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

_UPLOAD_SECONDS = 60.0

_TOOL = TypeAdapter(schemas.Tool)
_TOOLS = TypeAdapter(schemas.ToolPage)
_CREDENTIAL = TypeAdapter(schemas.Credential)
_CREDENTIALS = TypeAdapter(schemas.CredentialPage)
_RECORDING = TypeAdapter(schemas.Recording)
_RECORDINGS = TypeAdapter(schemas.RecordingPage)
_DOCUMENT = TypeAdapter(schemas.Document)
_DOCUMENTS = TypeAdapter(schemas.DocumentPage)
_NOTHING: TypeAdapter[None] = TypeAdapter(None)


def create_tool(
    definition: Mapping[str, Any], *, tool_id: UUID | str | None = None, idempotency_key: str | None = None
) -> Call[schemas.Tool]:
    """Create a tool under the id that workflows refer to it by, or under a new one.

    Args:
        definition: `{"type": ..., "name": ..., ...}`, as the API's document describes each type.
    """
    body = {"definition": definition, **without_none(id=None if tool_id is None else str(tool_id))}
    return post("/v1/tools", _TOOL, body, idempotency_key)


def put_tool(tool_id: UUID | str, definition: Mapping[str, Any]) -> Call[schemas.Tool]:
    """Give a tool its next version; one equal to the newest changes nothing. Workflow definitions that exist keep theirs."""
    return Call("PUT", f"/v1/tools/{tool_id}", _TOOL, json={"definition": definition})


def get_tool(tool_id: UUID | str, *, version: int | None = None) -> Call[schemas.Tool]:
    """Read a tool in its newest version, or in the one of that number."""
    return Call("GET", f"/v1/tools/{tool_id}", _TOOL, params=query(version=version))


def list_tools(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.ToolPage]:
    """List tools, newest first. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/tools", _TOOLS, params=query(limit=limit, cursor=cursor))


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
    return post("/v1/credentials", _CREDENTIAL, {"name": name, "credential": credential}, idempotency_key)


def put_credential(name: str, credential: Mapping[str, Any]) -> Call[schemas.Credential]:
    """Replace a credential. Calls of tools that begin from now on send the new one."""
    return Call("PUT", f"/v1/credentials/{name}", _CREDENTIAL, json={"credential": credential})


def get_credential(name: str) -> Call[schemas.Credential]:
    """Read what may be shown of a credential."""
    return Call("GET", f"/v1/credentials/{name}", _CREDENTIAL)


def list_credentials(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.CredentialPage]:
    """List credentials in the order of their names. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/credentials", _CREDENTIALS, params=query(limit=limit, cursor=cursor))


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
    body = {"transcript": transcript, **without_none(id=recording_id, name=name, url=url, metadata=metadata)}
    return post("/v1/recordings", _RECORDING, body, idempotency_key)


def get_recording(recording_id: str) -> Call[schemas.Recording]:
    """Read a recording."""
    return Call("GET", f"/v1/recordings/{recording_id}", _RECORDING)


def list_recordings(*, limit: int = 50, cursor: str | None = None) -> Call[schemas.RecordingPage]:
    """List recordings in the order of their ids. Pass the page's `next_cursor` as `cursor` for what follows."""
    return Call("GET", "/v1/recordings", _RECORDINGS, params=query(limit=limit, cursor=cursor))


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
        form=without_none(name=name, language=language, metadata=None if metadata is None else dumps(metadata)),
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
    return Call("GET", "/v1/documents", _DOCUMENTS, params=query(limit=limit, cursor=cursor))


def delete_document(document_id: UUID | str) -> Call[None]:
    """Delete a document. Agents find nothing of it from now on."""
    return Call("DELETE", f"/v1/documents/{document_id}", _NOTHING)
