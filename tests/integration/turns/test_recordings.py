"""Recordings of an organization in its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.world import World, definition
from worker.storage.recordings import create_recording
from worker.storage.workflows import put_definition
from worker.turns.recordings import StoredRecordings

if TYPE_CHECKING:
    from tests.integration.turns.conftest import Worker
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.storage.database import Database


async def register(world: World, recording_id: str, transcript: str) -> None:
    async with world.database.transaction() as connection:
        await create_recording(
            connection, organization_id=world.organization_id, recording_id=recording_id, transcript=transcript
        )


def greeted_by(recording_id: str) -> dict[str, Any]:
    document = definition()
    data = document["graph"]["nodes"][0]["data"]
    data |= {"greeting_type": "audio", "greeting_recording_id": recording_id}
    return document


async def test_an_opening_shows_the_transcript_of_the_greeting_that_was_recorded(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    await register(world, "rec_welcome", "Welcome to the clinic.")
    async with world.database.transaction() as connection:
        await put_definition(
            connection,
            organization_id=world.organization_id,
            workflow_id=world.workflow_id,
            definition=greeted_by("rec_welcome"),
        )
    session = await world.session(opening=True)
    assert session.opening_turn is not None
    assert await worker.execute(session.opening_turn.turn_id) == "completed"
    row = await world.row("turns", session.opening_turn.turn_id)
    assert row.assistant_text == "Welcome to the clinic."
    assert llm.requests == []


async def test_an_organization_has_only_its_own(world: World, database: Database) -> None:
    other = await World.make(database, "Other")
    await register(other, "rec_1", "Theirs.")
    recordings = StoredRecordings(database, world.organization_id)
    assert await recordings.transcript("rec_1") is None
    assert not await recordings.exist()
    theirs = StoredRecordings(database, other.organization_id)
    assert (await theirs.transcript("rec_1"), await theirs.exist()) == ("Theirs.", True)


async def test_what_no_id_can_be_is_no_recording(world: World, database: Database) -> None:
    recordings = StoredRecordings(database, world.organization_id)
    assert await recordings.transcript("\0") is None
    assert await recordings.transcript("\ud800") is None
