"""An organization's recordings, as the engine asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.storage.recordings import find_transcript, has_recordings

if TYPE_CHECKING:
    from uuid import UUID

    from worker.storage.database import Database


class StoredRecordings:
    """Looks recordings up when they are needed; this is the engine's `Recordings`. A turn that needs none asks nothing."""

    def __init__(self, database: Database, organization_id: UUID) -> None:
        self._database = database
        self._organization_id = organization_id

    async def transcript(self, recording_id: str) -> str | None:
        """What is said in a recording; None when there is no such recording.

        Raises:
            DatabaseUnavailable: when it could not be read.
        """
        if "\0" in recording_id:  # a model may write what PostgreSQL cannot even compare
            return None
        async with self._database.statement() as connection:
            return await find_transcript(
                connection,
                organization_id=self._organization_id,
                recording_id=recording_id.encode("utf-8", "replace").decode(),
            )

    async def exist(self) -> bool:
        """Whether the organization has any.

        Raises:
            DatabaseUnavailable: when it could not be read.
        """
        async with self._database.statement() as connection:
            return await has_recordings(connection, organization_id=self._organization_id)
