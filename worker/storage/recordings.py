"""The registry of recordings: what is said in each, under the id that workflows refer to it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert

from worker.errors import TurnWorkerError
from worker.storage.schema import recordings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


class RecordingExists(TurnWorkerError):
    """The organization has a recording of that id already."""

    code = "recording_exists"

    def __init__(self, recording_id: str) -> None:
        super().__init__(recording_id)
        self.recording_id = recording_id

    def __str__(self) -> str:
        return f"There is a recording {self.recording_id!r} already. Delete it first, or choose another id."


class RecordingNotFound(TurnWorkerError):
    """The organization has no recording of that id."""

    code = "recording_not_found"

    def __init__(self, recording_id: str) -> None:
        super().__init__(recording_id)
        self.recording_id = recording_id

    def __str__(self) -> str:
        return f"There is no recording {self.recording_id!r}."


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of speech.

    Attributes:
        id: What workflows refer to it by.
        transcript: What is said in it; text conversations show this where a voice would play it.
        url: Where the audio is, for whoever plays it. Nothing here fetches it.
    """

    id: str
    organization_id: UUID
    transcript: str
    name: str | None
    url: str | None
    metadata: dict[str, Any]
    created_at: datetime


_COLUMNS = (
    recordings.c.id,
    recordings.c.organization_id,
    recordings.c.transcript,
    recordings.c.name,
    recordings.c.url,
    recordings.c.metadata,
    recordings.c.created_at,
)
_INSERT = insert(recordings).on_conflict_do_nothing().returning(*_COLUMNS)
_ONE = (recordings.c.organization_id == bindparam("organization_id"), recordings.c.id == bindparam("id"))
_GET = select(*_COLUMNS).where(*_ONE)
_DELETE = delete(recordings).where(*_ONE).returning(recordings.c.id)
_TRANSCRIPT = select(recordings.c.transcript).where(*_ONE)
_ANY = select(select(recordings.c.id).where(recordings.c.organization_id == bindparam("organization_id")).exists())
_LIST = (
    select(*_COLUMNS)
    .where(recordings.c.organization_id == bindparam("organization_id"), recordings.c.id > bindparam("after"))
    .order_by(recordings.c.id)
    .limit(bindparam("limit"))
)


async def create_recording(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    recording_id: str,
    transcript: str,
    name: str | None = None,
    url: str | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
) -> Recording:
    """Register a recording.

    Raises:
        RecordingExists: when the organization has one of that id.
    """
    values = {
        "organization_id": organization_id,
        "id": recording_id,
        "transcript": transcript,
        "name": name,
        "url": url,
        "metadata": dict(metadata or {}),
    }
    row = (await connection.execute(_INSERT, values)).one_or_none()
    if row is None:
        raise RecordingExists(recording_id)
    return Recording(*row)


async def get_recording(connection: AsyncConnection, *, organization_id: UUID, recording_id: str) -> Recording:
    """Read a recording.

    Raises:
        RecordingNotFound: when the organization has none of that id.
    """
    row = (await connection.execute(_GET, {"organization_id": organization_id, "id": recording_id})).one_or_none()
    if row is None:
        raise RecordingNotFound(recording_id)
    return Recording(*row)


async def find_transcript(connection: AsyncConnection, *, organization_id: UUID, recording_id: str) -> str | None:
    """What is said in a recording; None when the organization has none of that id."""
    values = {"organization_id": organization_id, "id": recording_id}
    transcript: str | None = await connection.scalar(_TRANSCRIPT, values)
    return transcript


async def has_recordings(connection: AsyncConnection, *, organization_id: UUID) -> bool:
    """Whether the organization has any recording."""
    return bool(await connection.scalar(_ANY, {"organization_id": organization_id}))


async def delete_recording(connection: AsyncConnection, *, organization_id: UUID, recording_id: str) -> None:
    """Forget a recording. Conversations that refer to it go on as if it had never been registered.

    Raises:
        RecordingNotFound: when the organization has none of that id.
    """
    if await connection.scalar(_DELETE, {"organization_id": organization_id, "id": recording_id}) is None:
        raise RecordingNotFound(recording_id)


async def list_recordings(
    connection: AsyncConnection, *, organization_id: UUID, limit: int, after: str = ""
) -> list[Recording]:
    """The organization's recordings in the order of their ids; `after` is the last id of the page before."""
    rows = await connection.execute(_LIST, {"organization_id": organization_id, "limit": limit, "after": after})
    return [Recording(*row) for row in rows]
