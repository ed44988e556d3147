"""A stored definition keeps the versions of its tools, and can only mention tools that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.integration.api.test_tools import CALCULATOR, SLOTS, created

if TYPE_CHECKING:
    from tests.api import Tenant

WORKFLOWS = "/v1/workflows"


def carrying(*tool_ids: str, **configurations: Any) -> dict[str, Any]:
    """An agent whose only agent node carries these tools, with one way out of it."""
    nodes = [
        {"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Hi."}},
        {"id": "book", "type": "agentNode", "data": {"name": "Book", "prompt": "Book.", "tool_uuids": [*tool_ids]}},
        {"id": "end", "type": "endCall", "data": {"name": "End", "prompt": "Bye."}},
    ]
    edges = [
        {"id": "e1", "source": "start", "target": "book", "data": {"label": "Go", "condition": "always"}},
        {"id": "e2", "source": "book", "target": "end", "data": {"label": "All done", "condition": "done"}},
    ]
    return {"graph": {"nodes": nodes, "edges": edges}, "workflow_configurations": configurations}


async def stored(api: Tenant, definition: dict[str, Any]) -> dict[str, Any]:
    return await api.made(api.http.post(WORKFLOWS, json={"name": "Desk", "definition": definition}))


async def problems(api: Tenant, definition: dict[str, Any]) -> list[dict[str, Any]]:
    refused = await api.http.post(WORKFLOWS, json={"name": "Desk", "definition": definition})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_workflow")
    errors: list[dict[str, Any]] = refused.json()["errors"]
    assert {error["id"] for error in errors} == {"book"}
    return errors


async def test_a_definition_keeps_the_versions_its_tools_had_when_it_was_stored(api: Tenant) -> None:
    first, second = await created(api, CALCULATOR), await created(api, SLOTS)
    await api.http.put(f"/v1/tools/{second['id']}", json={"definition": SLOTS | {"retries": 1}})
    workflow = await stored(api, carrying(first["id"], second["id"].upper()))
    assert workflow["tool_pins"] == {first["id"]: 1, second["id"]: 2}
    await api.http.put(f"/v1/tools/{first['id']}", json={"definition": CALCULATOR | {"name": "sums"}})
    assert await api.get(f"{WORKFLOWS}/{workflow['id']}") == workflow


async def test_the_same_graph_with_newer_tools_is_a_new_definition_and_with_the_same_tools_is_not(api: Tenant) -> None:
    tool = await created(api, CALCULATOR)
    definition = carrying(tool["id"])
    path = f"{WORKFLOWS}/{(await stored(api, definition))['id']}"
    assert (await api.http.put(path, json={"definition": definition})).status_code == 200
    await api.http.put(f"/v1/tools/{tool['id']}", json={"definition": CALCULATOR | {"name": "sums"}})
    changed = await api.http.put(path, json={"definition": definition})
    assert (changed.status_code, changed.json()["number"], changed.json()["tool_pins"]) == (201, 2, {tool["id"]: 2})
    assert (await api.get(path, number=1))["tool_pins"] == {tool["id"]: 1}


async def test_tools_that_do_not_exist_are_problems_of_the_node_that_mentions_them(api: Tenant, other: Tenant) -> None:
    deleted, theirs = await created(api, CALCULATOR), await created(other, CALCULATOR)
    await api.http.delete(f"/v1/tools/{deleted['id']}")
    found = await problems(api, carrying("calc", str(uuid4()), deleted["id"], theirs["id"]))
    assert [error["field"] for error in found] == [f"data.tool_uuids.{place}" for place in range(4)]
    assert "ids are UUIDs" in found[0]["message"]
    assert all("There is no tool" in error["message"] for error in found[1:])


async def test_a_tool_deleted_since_keeps_the_definition_from_being_stored_again_but_not_from_being_read(
    api: Tenant,
) -> None:
    tool = await created(api, CALCULATOR)
    workflow = await stored(api, carrying(tool["id"]))
    await api.http.delete(f"/v1/tools/{tool['id']}")
    refused = await api.http.put(f"{WORKFLOWS}/{workflow['id']}", json={"definition": carrying(tool["id"])})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_workflow")
    assert await api.get(f"{WORKFLOWS}/{workflow['id']}") == workflow


async def test_two_tools_of_one_name_and_a_tool_named_as_a_transition_are_problems(api: Tenant) -> None:
    definitions = (CALCULATOR, CALCULATOR, SLOTS | {"name": "all_done"})
    one, two, way = [(await created(api, definition))["id"] for definition in definitions]
    found = await problems(api, carrying(one, two, one, way))
    assert [error["field"] for error in found] == [f"data.tool_uuids.{place}" for place in (1, 2, 3)]
    assert f"that of tool {one!r}" in found[0]["message"]
    assert "on this node already" in found[1]["message"]
    assert "that of the transition 'All done'" in found[2]["message"]


async def test_a_tool_may_not_be_named_as_the_one_that_searches_documents_where_there_are_any(api: Tenant) -> None:
    tool = await created(api, CALCULATOR | {"name": "retrieve_from_knowledge_base"})
    definition = carrying(tool["id"])
    await stored(api, definition)
    definition["graph"]["nodes"][1]["data"]["document_uuids"] = [str(uuid4())]
    found = await problems(api, definition)
    assert any("the tool that searches its documents" in error["message"] for error in found)


async def test_a_tool_that_a_later_release_stored_cannot_be_used_by_this_one(api: Tenant) -> None:
    tool = await created(api, CALCULATOR)
    await api.world.execute("""UPDATE tool_versions SET definition = '{"type": "telepathy"}'""")
    (error,) = await problems(api, carrying(tool["id"]))
    assert error["field"] == "data.tool_uuids.0"


async def test_whether_tools_are_pinned_is_one_of_two_words(api: Tenant) -> None:
    assert (await stored(api, carrying(tool_versions="latest")))["number"] == 1
    refused = await api.http.post(WORKFLOWS, json={"name": "Desk", "definition": carrying(tool_versions="newest")})
    (error,) = refused.json()["errors"]
    assert (error["kind"], error["field"]) == ("workflow", "workflow_configurations.tool_versions")
