"""Tools over HTTP: created, given new versions, read, deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.workflow.tool_definition import parse_tool, stored_form

if TYPE_CHECKING:
    from tests.api import Tenant

TOOLS = "/v1/tools"
CALCULATOR: dict[str, Any] = {"type": "calculator"}
SLOTS: dict[str, Any] = {
    "type": "http_request",
    "name": "free_slots",
    "description": "Find free appointments.",
    "url": "https://clinic.example/slots",
    "parameters": [{"name": "day"}],
}


async def created(api: Tenant, definition: dict[str, Any], **body: Any) -> dict[str, Any]:
    return await api.made(api.http.post(TOOLS, json={"definition": definition, **body}))


async def test_a_tool_is_created_with_every_field_it_has(api: Tenant) -> None:
    response = await api.http.post(TOOLS, json={"definition": SLOTS})
    tool = response.json()
    assert (response.status_code, response.headers["Location"]) == (201, f"{TOOLS}/{tool['id']}")
    assert (tool["version"], tool["definition"]) == (1, stored_form(parse_tool(SLOTS)))
    assert tool["definition"] | SLOTS | {"parameters": tool["definition"]["parameters"]} == tool["definition"]
    assert await api.get(f"{TOOLS}/{tool['id']}") == tool


async def test_a_tool_may_keep_the_id_that_an_exported_workflow_knows_it_by(api: Tenant, other: Tenant) -> None:
    id_ = str(uuid4())
    assert (await created(api, SLOTS, id=id_))["id"] == id_
    refused = await api.http.post(TOOLS, json={"definition": CALCULATOR, "id": id_})
    assert (refused.status_code, refused.json()["code"]) == (409, "tool_exists")
    assert (await created(other, CALCULATOR, id=id_))["id"] == id_
    assert (await api.get(f"{TOOLS}/{id_}"))["definition"]["type"] == "http_request"


async def test_creating_can_be_repeated_with_a_key(api: Tenant) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [await api.http.post(TOOLS, json={"definition": SLOTS}, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len((await api.get(TOOLS))["data"]) == 1


async def test_a_change_is_the_next_version_and_the_old_one_stays_readable(api: Tenant) -> None:
    path = f"{TOOLS}/{(await created(api, SLOTS))['id']}"
    changed = await api.http.put(path, json={"definition": SLOTS | {"description": "Find free times."}})
    assert (changed.status_code, changed.json()["version"]) == (201, 2)
    assert await api.get(path) == changed.json()
    assert (await api.get(path, version=1))["definition"]["description"] == "Find free appointments."
    missing = await api.http.get(path, params={"version": 3})
    assert (missing.status_code, missing.json()["code"]) == (404, "tool_not_found")


async def test_putting_the_same_version_again_changes_nothing(api: Tenant) -> None:
    path = f"{TOOLS}/{(await created(api, SLOTS))['id']}"
    repeated = await api.http.put(path, json={"definition": SLOTS | {"retries": 0, "credential": None}})
    assert (repeated.status_code, repeated.json()["version"]) == (200, 1)


async def test_versions_put_at_once_are_all_kept_under_numbers_of_their_own(api: Tenant) -> None:
    path = f"{TOOLS}/{(await created(api, SLOTS))['id']}"
    bodies = [{"definition": SLOTS | {"description": f"Form {number}."}} for number in range(5)]
    answers = await asyncio.gather(*(api.http.put(path, json=body) for body in bodies))
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6]
    for answer, body in zip(answers, bodies, strict=True):
        kept = await api.get(path, version=answer.json()["version"])
        assert kept["definition"]["description"] == body["definition"]["description"]


async def test_everything_that_is_wrong_is_told_at_once_by_its_place_in_the_body(api: Tenant) -> None:
    wrong = SLOTS | {
        "name": "free slots",
        "headers": {"Authorization": "Bearer x"},
        "parameters": [{"name": "day", "type": "date"}],
        "colour": "red",
    }
    refused = await api.http.post(TOOLS, json={"definition": wrong, "id": "7"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert {error["pointer"] for error in refused.json()["errors"]} == {
        "/id",
        "/definition/name",
        "/definition/headers/Authorization",
        "/definition/parameters/0/type",
        "/definition/colour",
    }


async def test_what_is_no_tool_is_told_the_types_there_are(api: Tenant) -> None:
    refused = await api.http.post(TOOLS, json={"definition": {"type": "fax"}})
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "/definition"
    assert "http_request, calculator" in error["message"]


async def test_a_credential_that_does_not_exist_is_found_before_a_conversation_needs_it(api: Tenant) -> None:
    definition = SLOTS | {"credential": "desk"}
    refused = await api.http.post(TOOLS, json={"definition": definition})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/definition/credential")
    bearer = {"name": "desk", "credential": {"kind": "bearer", "token": "t"}}
    await api.made(api.http.post("/v1/credentials", json=bearer))
    tool = await created(api, definition)
    changed = await api.http.put(f"{TOOLS}/{tool['id']}", json={"definition": SLOTS | {"credential": "dask"}})
    assert (changed.status_code, changed.json()["errors"][0]["pointer"]) == (422, "/definition/credential")


async def test_tools_are_listed_newest_first_each_once_in_its_newest_version(api: Tenant) -> None:
    made = [await created(api, SLOTS | {"name": f"t{number}"}) for number in range(3)]
    await api.http.put(f"{TOOLS}/{made[0]['id']}", json={"definition": CALCULATOR})
    first = await api.get(TOOLS, limit=2)
    second = await api.get(TOOLS, limit=2, cursor=first["next_cursor"])
    listed = [(tool["definition"]["name"], tool["version"]) for tool in first["data"] + second["data"]]
    assert listed == [("t2", 1), ("t1", 1), ("calculator", 2)]


async def test_a_deleted_tool_is_gone_and_its_id_is_not_given_again(api: Tenant) -> None:
    tool = await created(api, SLOTS)
    path = f"{TOOLS}/{tool['id']}"
    assert (await api.http.delete(path)).status_code == 204
    for method, body in (("GET", None), ("PUT", {"definition": SLOTS}), ("DELETE", None)):
        missing = await api.http.request(method, path, json=body)
        assert (missing.status_code, missing.json()["code"]) == (404, "tool_not_found")
    assert (await api.get(TOOLS))["data"] == []
    refused = await api.http.post(TOOLS, json={"definition": SLOTS, "id": tool["id"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "tool_exists")


async def test_an_organization_sees_and_changes_only_its_own(api: Tenant, other: Tenant) -> None:
    path = f"{TOOLS}/{(await created(api, SLOTS))['id']}"
    for method, body in (("GET", None), ("PUT", {"definition": CALCULATOR}), ("DELETE", None)):
        assert (await other.http.request(method, path, json=body)).status_code == 404
    assert (await other.get(TOOLS))["data"] == []
    assert (await api.get(path))["version"] == 1
