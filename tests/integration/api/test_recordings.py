"""Recordings over HTTP: registered, read, forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api import Tenant

RECORDINGS = "/v1/recordings"


async def test_a_recording_keeps_the_id_that_workflows_know_it_by(api: Tenant) -> None:
    body = {
        "id": "rec_welcome",
        "transcript": " Welcome to the clinic. ",
        "name": "Welcome",
        "url": "https://example.com/welcome.wav",
        "metadata": {"seconds": 2},
    }
    created = await api.http.post(RECORDINGS, json=body)
    assert (created.status_code, created.headers["Location"]) == (201, f"{RECORDINGS}/rec_welcome")
    recording = await api.get(created.headers["Location"])
    assert recording == created.json()
    assert recording | body | {"transcript": "Welcome to the clinic."} == recording


async def test_without_an_id_one_is_made(api: Tenant) -> None:
    made = [await api.made(api.http.post(RECORDINGS, json={"transcript": "Hello."})) for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]
    assert (await api.get(f"{RECORDINGS}/{made[0]['id']}"))["transcript"] == "Hello."


async def test_a_second_recording_of_one_id_is_refused_and_the_first_stays(api: Tenant) -> None:
    await api.made(api.http.post(RECORDINGS, json={"id": "r", "transcript": "First."}))
    refused = await api.http.post(RECORDINGS, json={"id": "r", "transcript": "Second."})
    assert (refused.status_code, refused.json()["code"]) == (409, "recording_exists")
    assert (await api.get(f"{RECORDINGS}/r"))["transcript"] == "First."


async def test_registering_can_be_repeated_with_a_key(api: Tenant) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [
        await api.http.post(RECORDINGS, json={"id": "r", "transcript": "Hello."}, headers=headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content


async def test_recordings_are_listed_by_id_page_by_page(api: Tenant) -> None:
    for name in ("c", "a", "b"):
        await api.made(api.http.post(RECORDINGS, json={"id": name, "transcript": "Hello."}))
    first = await api.get(RECORDINGS, limit=2)
    second = await api.get(RECORDINGS, limit=2, cursor=first["next_cursor"])
    assert [item["id"] for item in first["data"] + second["data"]] == ["a", "b", "c"]
    assert second["next_cursor"] is None


async def test_a_deleted_recording_is_gone_and_its_id_is_free(api: Tenant) -> None:
    await api.made(api.http.post(RECORDINGS, json={"id": "r", "transcript": "First."}))
    assert (await api.http.delete(f"{RECORDINGS}/r")).status_code == 204
    for method in ("GET", "DELETE"):
        missing = await api.http.request(method, f"{RECORDINGS}/r")
        assert (missing.status_code, missing.json()["code"]) == (404, "recording_not_found")
    await api.made(api.http.post(RECORDINGS, json={"id": "r", "transcript": "Second."}))


async def test_an_organization_sees_and_deletes_only_its_own(api: Tenant, other: Tenant) -> None:
    await api.made(api.http.post(RECORDINGS, json={"id": "r", "transcript": "Ours."}))
    assert (await other.http.get(f"{RECORDINGS}/r")).status_code == 404
    assert (await other.http.delete(f"{RECORDINGS}/r")).status_code == 404
    assert (await other.get(RECORDINGS))["data"] == []
    await other.made(other.http.post(RECORDINGS, json={"id": "r", "transcript": "Theirs."}))
    assert (await api.get(f"{RECORDINGS}/r"))["transcript"] == "Ours."


@pytest.mark.parametrize("recording_id", ["", "..", "a/b", "a b", "\u00e4", "a" * 101, "a\n"])
async def test_an_id_that_could_not_stand_in_a_path_or_a_prompt_is_refused(api: Tenant, recording_id: str) -> None:
    refused = await api.http.post(RECORDINGS, json={"id": recording_id, "transcript": "Hello."})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/id")


async def test_everything_that_is_wrong_is_told_at_once(api: Tenant) -> None:
    body = {"transcript": " ", "url": "file:///etc/passwd", "name": "a\nb", "extra": 1}
    refused = await api.http.post(RECORDINGS, json=body)
    assert refused.status_code == 422
    assert {error["pointer"] for error in refused.json()["errors"]} == {"/transcript", "/url", "/name", "/extra"}
