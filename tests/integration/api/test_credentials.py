"""Credentials over HTTP: stored, replaced, forgotten, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text

from api_stub.app import create_app
from tests.api import tenant
from worker.storage.credentials import CredentialNotFound, unseal_credential
from worker.storage.secrets import SecretNameTaken, SecretNotFound, get_secret, list_secrets, put_secret

if TYPE_CHECKING:
    from tests.api import Bell, Tenant
    from worker.settings import Settings
    from worker.storage.database import Database

CREDENTIALS = "/v1/credentials"
TOKEN = "t0ken-of-the-clinic"
BEARER = {"kind": "bearer", "token": TOKEN}
KINDS: list[tuple[dict[str, str], dict[str, str]]] = [
    (BEARER, {"Authorization": f"Bearer {TOKEN}"}),
    (
        {"kind": "basic", "username": "desk", "password": f"{TOKEN}:\u00e4"},
        {"Authorization": "Basic ZGVzazp0MGtlbi1vZi10aGUtY2xpbmljOsOk"},
    ),
    ({"kind": "api_key_header", "key": TOKEN}, {"X-API-Key": TOKEN}),
    ({"kind": "api_key_header", "header": "X-Key", "key": TOKEN}, {"X-Key": TOKEN}),
    (
        {"kind": "custom_header", "header": "Authorization", "value": f"Token {TOKEN}"},
        {"Authorization": f"Token {TOKEN}"},
    ),
]


async def create(api: Tenant, credential: dict[str, str], name: str = "desk") -> Any:
    return await api.http.post(CREDENTIALS, json={"name": name, "credential": credential})


async def headers(api: Tenant, name: str = "desk") -> dict[str, str]:
    """What a tool of the organization sends."""
    async with api.world.database.statement() as connection:
        credential = await unseal_credential(
            connection, api.services.vault, organization_id=api.world.organization_id, name=name
        )
    return credential.headers()


@pytest.mark.parametrize(("credential", "sent"), KINDS, ids=[kind["kind"] for kind, _ in KINDS])
async def test_each_kind_is_stored_encrypted_and_becomes_the_headers_that_are_sent(
    api: Tenant, credential: dict[str, str], sent: dict[str, str]
) -> None:
    created = await create(api, credential)
    assert (created.status_code, created.headers["Location"]) == (201, f"{CREDENTIALS}/desk")
    assert (created.json()["name"], created.json()["kind"]) == ("desk", credential["kind"])
    assert await headers(api) == sent
    async with api.world.database.statement() as connection:
        (row,) = await connection.execute(text("SELECT * FROM secrets"))
    assert TOKEN not in str(row)


async def test_what_is_secret_is_never_answered_not_even_when_it_is_refused(api: Tenant) -> None:
    answers = [
        await create(api, BEARER),
        await create(api, BEARER),
        await api.http.get(f"{CREDENTIALS}/desk"),
        await api.http.get(CREDENTIALS),
        await api.http.put(f"{CREDENTIALS}/desk", json={"credential": BEARER}),
        await create(api, BEARER | {"kind": "basic", "password": TOKEN}),
        await create(api, BEARER | {"token": f"{TOKEN}\n"}),
        await create(api, BEARER | {"kind": TOKEN[:6]}),
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 200, 200, 200, 422, 422, 422]
    assert not [answer.text for answer in answers if TOKEN in answer.text]


async def test_creating_can_be_repeated_with_a_key_and_the_kept_answer_holds_no_secret(api: Tenant) -> None:
    body = {"name": "desk", "credential": BEARER}
    answers = [await api.http.post(CREDENTIALS, json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    async with api.world.database.statement() as connection:
        assert TOKEN not in str((await connection.execute(text("SELECT * FROM idempotency_keys"))).all())


async def test_a_credential_is_replaced_in_place(api: Tenant) -> None:
    await create(api, BEARER)
    replaced = await api.http.put(f"{CREDENTIALS}/desk", json={"credential": {"kind": "api_key_header", "key": "k"}})
    assert (replaced.status_code, replaced.json()["kind"]) == (200, "api_key_header")
    assert await headers(api) == {"X-API-Key": "k"}
    missing = await api.http.put(f"{CREDENTIALS}/dask", json={"credential": BEARER})
    assert (missing.status_code, missing.json()["code"]) == (404, "credential_not_found")


async def test_a_second_credential_of_one_name_is_refused_and_the_first_stays(api: Tenant) -> None:
    await create(api, BEARER)
    refused = await create(api, {"kind": "api_key_header", "key": "k"})
    assert (refused.status_code, refused.json()["code"]) == (409, "credential_exists")
    assert await headers(api) == {"Authorization": f"Bearer {TOKEN}"}


async def test_credentials_are_listed_by_name_page_by_page(api: Tenant) -> None:
    for name in ("c", "a", "b"):
        await create(api, BEARER, name)
    first = await api.get(CREDENTIALS, limit=2)
    second = await api.get(CREDENTIALS, limit=2, cursor=first["next_cursor"])
    assert [item["name"] for item in first["data"] + second["data"]] == ["a", "b", "c"]


async def test_a_forgotten_credential_is_gone(api: Tenant) -> None:
    await create(api, BEARER)
    assert (await api.http.delete(f"{CREDENTIALS}/desk")).status_code == 204
    for method in ("GET", "DELETE"):
        missing = await api.http.request(method, f"{CREDENTIALS}/desk")
        assert (missing.status_code, missing.json()["code"]) == (404, "credential_not_found")
    with pytest.raises(CredentialNotFound):
        await headers(api)


async def test_an_organization_sees_and_changes_only_its_own(api: Tenant, other: Tenant) -> None:
    await create(api, BEARER)
    for method, body in (("GET", None), ("PUT", {"credential": BEARER}), ("DELETE", None)):
        assert (await other.http.request(method, f"{CREDENTIALS}/desk", json=body)).status_code == 404
    assert (await other.get(CREDENTIALS))["data"] == []
    with pytest.raises(CredentialNotFound):
        await headers(other)
    assert await headers(api)


async def test_the_key_of_an_llm_and_a_credential_share_names_but_never_take_each_others_place(api: Tenant) -> None:
    owner = {"organization_id": api.world.organization_id}
    vault = api.services.vault
    async with api.world.database.statement() as connection:
        await put_secret(connection, vault, **owner, name="llm", value="sk-1")
    refused = await create(api, BEARER, "llm")
    assert (refused.status_code, refused.json()["code"]) == (409, "credential_exists")
    assert (await api.http.delete(f"{CREDENTIALS}/llm")).status_code == 404
    await create(api, BEARER)
    async with api.world.database.statement() as connection:
        assert [secret.name for secret in await list_secrets(connection, **owner)] == ["llm"]
        with pytest.raises(SecretNotFound):
            await get_secret(connection, vault, **owner, name="desk")
        with pytest.raises(SecretNameTaken, match="'desk'"):
            await put_secret(connection, vault, **owner, name="desk", value="sk-2")


async def test_without_a_key_to_encrypt_with_nothing_is_stored_and_the_operator_is_told(
    settings: Settings, bell: Bell, database: Database
) -> None:
    app = create_app(settings.model_copy(update={"secret_key": None}), bell)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        keyless = await tenant(database, app, transport, "http://api")
        async with keyless.http:
            refused = await create(keyless, BEARER)
            assert (refused.status_code, refused.json()["code"]) == (501, "secret_key_missing")
            assert (await keyless.get(CREDENTIALS))["data"] == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "\u00e4", "a" * 101])
async def test_a_name_that_could_not_stand_in_a_path_is_refused(api: Tenant, name: str) -> None:
    refused = await create(api, BEARER, name)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/name")
