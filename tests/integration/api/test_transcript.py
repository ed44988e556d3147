"""The transcript of a session over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from tests.api import Tenant


async def test_a_transcript_says_who_said_what_when_along_the_branch_of_the_head(api: Tenant) -> None:
    session = await api.world.session()
    first = await api.world.enqueue(session.session_id, "Hello?", "Is anybody there?")
    await api.world.complete((await api.world.claim(first.turn_id)).attempt, assistant_text="Good morning.")
    failed = await api.world.enqueue(session.session_id, "Never answered.")
    await api.world.fail((await api.world.claim(failed.turn_id)).attempt)
    silent = await api.world.enqueue(session.session_id, "Hm.")
    await api.world.complete((await api.world.claim(silent.turn_id)).attempt, assistant_text=None)

    transcript = await api.get(f"/v1/sessions/{session.session_id}/transcript")

    assert transcript["session_id"] == str(session.session_id)
    assert [(said["role"], said["text"], said["turn_id"]) for said in transcript["data"]] == [
        ("user", "Hello?", str(first.turn_id)),
        ("user", "Is anybody there?", str(first.turn_id)),
        ("assistant", "Good morning.", str(first.turn_id)),
        ("user", "Hm.", str(silent.turn_id)),
    ]
    times = [said["created_at"] for said in transcript["data"]]
    assert times == sorted(times)


async def test_a_session_in_which_nothing_was_said_has_an_empty_transcript(api: Tenant) -> None:
    session = await api.world.session()
    assert (await api.get(f"/v1/sessions/{session.session_id}/transcript"))["data"] == []


async def test_another_organizations_transcript_is_not_to_be_had(api: Tenant) -> None:
    missing = await api.http.get(f"/v1/sessions/{uuid4()}/transcript")
    assert (missing.status_code, missing.json()["code"]) == (404, "session_not_found")
