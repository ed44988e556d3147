"""Workflows over HTTP: created, changed, read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.world import definition
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from tests.api import Tenant


def bare_graph() -> dict[str, Any]:
    """As a visual editor exports it, with keys that only the editor needs."""
    start = {"id": "1", "type": "startCall", "position": {"x": 1.5, "y": 2}, "data": {"name": "A", "prompt": "Hi."}}
    return {"nodes": [start], "edges": [], "viewport": {"zoom": 1}}


async def test_a_workflow_is_created_with_its_first_definition(api: Tenant) -> None:
    created = await api.http.post("/v1/workflows", json={"name": " Desk ", "definition": definition()})
    assert created.status_code == 201
    workflow = created.json()
    assert (workflow["name"], workflow["number"], workflow["definition"]) == ("Desk", 1, definition())
    assert workflow == await api.get(created.headers["Location"])


async def test_a_bare_graph_is_wrapped_and_keeps_what_only_the_editor_needs(api: Tenant) -> None:
    workflow = await api.made(api.http.post("/v1/workflows", json={"name": "Desk", "definition": bare_graph()}))
    assert workflow["definition"] == {"graph": bare_graph(), "workflow_configurations": {}}


async def test_a_new_definition_gets_the_next_number_and_the_old_one_stays_readable(api: Tenant) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}"
    changed = await api.http.put(path, json={"definition": definition("Be brief."), "name": "Renamed"})
    assert (changed.status_code, changed.json()["number"], changed.json()["name"]) == (201, 2, "Renamed")
    assert (await api.get(path))["definition"] == definition("Be brief.")
    assert (await api.get(path, number=1))["definition"] == definition()
    missing = await api.http.get(path, params={"number": 3})
    assert (missing.status_code, missing.json()["code"]) == (404, "workflow_not_found")


async def test_putting_the_same_definition_again_changes_nothing(api: Tenant) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}"
    repeated = await api.http.put(path, json={"definition": definition()})
    assert (repeated.status_code, repeated.json()["number"]) == (200, 1)


async def test_definitions_put_at_once_are_all_kept_under_numbers_of_their_own(api: Tenant) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}"
    bodies = [{"definition": definition(f"Prompt {number}.")} for number in range(5)]
    answers = await asyncio.gather(*(api.http.put(path, json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [201] * 5
    for answer, body in zip(answers, bodies, strict=True):
        assert (await api.get(path, number=answer.json()["number"]))["definition"] == body["definition"]


async def test_an_invalid_definition_is_refused_with_every_problem_at_once_and_stored_nowhere(api: Tenant) -> None:
    node = {"id": "a", "type": "agentNode", "data": {"prompt": "", "tool_uuids": ["calc"]}}
    graph = {"nodes": [node], "edges": [{"id": "e", "source": "a"}]}
    overrides = {"provider": "openai", "fallback": {"provider": "nobody"}}
    broken = {"graph": graph, "workflow_configurations": {"model_overrides": overrides}}
    for method, path in [("POST", "/v1/workflows"), ("PUT", f"/v1/workflows/{api.world.workflow_id}")]:
        refused = await api.http.request(method, path, json={"name": "Broken", "definition": broken})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_workflow")
        errors = refused.json()["errors"]
        assert {error["kind"] for error in errors} == {"workflow", "node", "edge"}
        assert all(error["message"] for error in errors)
        fields = [(error["field"] or "").removeprefix("workflow_configurations.model_overrides.") for error in errors]
        assert [
            fields.count(field) for field in ("data.prompt", "data.tool_uuids.0", "model", "fallback.provider")
        ] == [1] * 4
    (only,) = (await api.get("/v1/workflows"))["data"]
    assert only["number"] == 1


async def test_putting_a_definition_on_an_unknown_workflow_is_a_404(api: Tenant) -> None:
    missing = await api.http.put(f"/v1/workflows/{uuid4()}", json={"definition": definition()})
    assert (missing.status_code, missing.json()["code"]) == (404, "workflow_not_found")


async def test_workflows_are_listed_newest_first_each_once_with_its_newest_definition(api: Tenant) -> None:
    made = [
        await api.made(api.http.post("/v1/workflows", json={"name": f"W{number}", "definition": definition()}))
        for number in range(3)
    ]
    await api.http.put(f"/v1/workflows/{made[0]['id']}", json={"definition": definition("Other.")})
    first = await api.get("/v1/workflows", limit=2)
    second = await api.get("/v1/workflows", limit=2, cursor=first["next_cursor"])
    listed = first["data"] + second["data"]
    assert [item["name"] for item in listed] == ["W2", "W1", "W0", "Reception"]
    assert [item["number"] for item in listed] == [1, 1, 2, 1]


async def test_a_number_that_json_does_not_know_is_refused(api: Tenant) -> None:
    body = json.dumps({"name": "W", "definition": definition() | {"x": 0}}).replace('"x": 0', '"x": 1e999')
    refused = await api.http.post("/v1/workflows", content=body)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/definition")


async def test_a_base_url_that_shows_a_private_host_is_refused_unless_the_organization_may_reach_it(
    api: Tenant,
) -> None:
    wanted = definition() | {"workflow_configurations": {"model_overrides": {"base_url": "http://10.1.2.3:8000/v1"}}}
    refused = await api.http.post("/v1/workflows", json={"name": "Desk", "definition": wanted})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_workflow")
    assert "10.1.2.3" in refused.text
    assert "allowed hosts" in refused.text
    async with api.world.database.transaction() as connection:
        await change_settings(
            connection, organization_id=api.world.organization_id, changes={"allowed_hosts": ["10.1.2.3:8000"]}
        )
    assert (await api.http.post("/v1/workflows", json={"name": "Desk", "definition": wanted})).status_code == 201


@pytest.mark.parametrize(
    ("overrides", "fields"),
    [
        ({"provider": "nobody"}, ["provider"]),
        ({"provider": "openai"}, ["model"]),
        (
            {"provider": "groq", "model": "m", "fallback": {"provider": "ollama"}},
            ["api_key", "fallback.model", "fallback.base_url"],
        ),
        ({"api_key": {"secret": "gone"}}, ["api_key"]),
    ],
)
async def test_a_model_that_could_not_be_called_is_refused_when_the_definition_is_stored(
    api: Tenant, overrides: dict[str, Any], fields: list[str]
) -> None:
    asked = definition() | {"workflow_configurations": {"model_overrides": overrides}}
    refused = await api.http.post("/v1/workflows", json={"name": "Desk", "definition": asked})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_workflow")
    place = "workflow_configurations.model_overrides."
    assert [error["field"].removeprefix(place) for error in refused.json()["errors"]] == fields
