"""Keys: who may ask, and what they see."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.storage.organizations import create_api_key, list_api_keys, revoke_api_key

if TYPE_CHECKING:
    from tests.api import Tenant


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, "Bearer"),
        ({"Authorization": "Bearer"}, "Bearer"),
        ({"Authorization": "Bearer twk_unknown"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer twk_\u00e4"}, 'Bearer error="invalid_token"'),
    ],
)
async def test_a_request_without_a_valid_key_is_a_401_that_says_how_to_do_better(
    api: Tenant, headers: dict[str, str], challenge: str
) -> None:
    del api.http.headers["Authorization"]
    refused = await api.http.get(
        "/v1/sessions", headers={name.encode(): value.encode() for name, value in headers.items()}
    )
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.headers["WWW-Authenticate"] == challenge


async def test_a_key_is_checked_before_anything_else_is_looked_at(api: Tenant) -> None:
    del api.http.headers["Authorization"]
    refused = await api.http.post(f"/v1/sessions/{uuid4()}/turns", content=b"{")
    assert refused.status_code == 401


async def test_a_revoked_key_opens_nothing_from_the_next_request_on(api: Tenant) -> None:
    organization_id = api.world.organization_id
    async with api.world.database.transaction() as connection:
        (key,) = await list_api_keys(connection, organization_id=organization_id)
        await revoke_api_key(connection, organization_id=organization_id, key_id=key.id)
    assert (await api.http.get("/v1/sessions")).status_code == 401


async def test_several_keys_of_an_organization_open_the_same(api: Tenant) -> None:
    session = await api.session()
    async with api.world.database.transaction() as connection:
        second = await create_api_key(connection, organization_id=api.world.organization_id, name="second")
    shown = await api.http.get(f"/v1/sessions/{session['id']}", headers={"Authorization": f"Bearer {second.key}"})
    assert shown.json()["id"] == session["id"]


async def test_one_organization_never_sees_or_changes_anothers_rows(api: Tenant, other: Tenant) -> None:
    session = await api.session(external_id="mine")
    turn = await api.turn(session["id"])
    workflow = f"/v1/workflows/{api.world.workflow_id}"
    definition = (await api.get(workflow))["definition"]
    for method, path, body in [
        ("GET", workflow, None),
        ("PUT", workflow, {"definition": definition}),
        ("POST", f"{workflow}/sessions", {}),
        ("GET", f"/v1/sessions/{session['id']}", None),
        ("POST", f"/v1/sessions/{session['id']}/end", {}),
        ("GET", f"/v1/sessions/{session['id']}/turns", None),
        ("POST", f"/v1/sessions/{session['id']}/turns", {"text": "Hi."}),
        ("GET", f"/v1/sessions/{session['id']}/events", None),
        ("GET", f"/v1/turns/{turn['id']}", None),
        ("GET", f"/v1/turns/{turn['id']}?wait=5", None),
        ("GET", f"/v1/turns/{turn['id']}/events", None),
    ]:
        refused = await other.http.request(method, path, json=body)
        assert refused.status_code == 404, f"{method} {path}"
    assert (await other.get("/v1/sessions"))["data"] == []
    assert (await other.get("/v1/sessions", external_id="mine"))["data"] == []
    assert [item["id"] for item in (await other.get("/v1/workflows"))["data"]] == [str(other.world.workflow_id)]
    del session["opening_turn"]
    assert await api.get(f"/v1/sessions/{session['id']}") == session | {"revision": 1, "last_sequence": 1}
