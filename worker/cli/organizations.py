"""`turn-worker org` and `turn-worker keys`: who may use the API."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import UUID

import click

from worker.cli.options import assignments
from worker.cli.servers import database_url, transaction
from worker.cli.tables import echo_table, moment
from worker.settings import load_settings
from worker.storage.organizations import (
    change_settings,
    create_api_key,
    create_organization,
    find_organization,
    list_api_keys,
    list_organizations,
    revoke_api_key,
)
from worker.workflow.organization_settings import settings_described

if TYPE_CHECKING:
    from pydantic import JsonValue

    from worker.storage.organizations import ApiKey, NewApiKey, Organization
    from worker.workflow.organization_settings import OrganizationSettings

_organization = click.option("--org", "organization", required=True, metavar="NAME", help="Whose keys.")


@click.group()
def org() -> None:
    """Create, list and configure organizations: everything belongs to one, and none sees another's."""


@org.command("create")
@click.argument("name")
def create_org(name: str) -> None:
    """Create an organization and print its id."""
    click.echo(asyncio.run(_create_organization(_url(), _named(name))))


@org.command("list")
def list_orgs() -> None:
    """List all organizations."""
    found = asyncio.run(_organizations(_url()))
    rows = [(each.name, str(each.id), moment(each.created_at)) for each in found]
    echo_table(("NAME", "ID", "CREATED"), rows)


@org.command("set", epilog="\b\nSettings:\n" + "\n".join(f"  {name}: {what}" for name, what in settings_described()))
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
def set_org(name: str, changes: tuple[str, ...]) -> None:
    """Set what holds for one organization: its limits, how long its content is kept, which hosts it may reach.

    KEY=null returns to the default. Either all of it is set or, if anything cannot be, nothing.
    """
    settings = asyncio.run(_change_settings(_url(), name, assignments(changes, "KEY=VALUE")))
    click.echo(json.dumps(settings.document(), indent=2, ensure_ascii=False))


@org.command("show")
@click.argument("name")
def show_org(name: str) -> None:
    """Show an organization with everything that is set for it, as JSON."""
    found = asyncio.run(_find_organization(_url(), name))
    document = {
        "id": str(found.id),
        "name": found.name,
        "created_at": moment(found.created_at),
        "settings": found.settings,
    }
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@click.group()
def keys() -> None:
    """Create, list and revoke the API keys of an organization."""


@keys.command("create")
@_organization
@click.option("--name", default="default", show_default=True, help="What the key is for, for yourself.")
def create_key(organization: str, name: str) -> None:
    """Make an API key and print it, this once: only its hash is stored."""
    created = asyncio.run(_create_key(_url(), organization, _named(name)))
    click.echo(created.key)
    click.echo(f"Key {created.id}. It is not shown again.", err=True)


@keys.command("list")
@_organization
def list_keys(organization: str) -> None:
    """List the keys, revoked ones included."""
    found = asyncio.run(_keys(_url(), organization))
    rows = [
        (
            str(each.id),
            each.name,
            f"{each.hint}...",
            moment(each.created_at),
            "in use" if each.revoked_at is None else f"revoked {moment(each.revoked_at)}",
        )
        for each in found
    ]
    echo_table(("ID", "NAME", "KEY", "CREATED", "STATE"), rows)


@keys.command("revoke")
@_organization
@click.argument("key_id", type=UUID)
def revoke_key(organization: str, key_id: UUID) -> None:
    """Make a key worthless, from the next request on. KEY_ID is what `keys list` shows as its id."""
    asyncio.run(_revoke_key(_url(), organization, key_id))
    click.echo(f"Key {key_id} is revoked.")


def _url() -> str:
    return database_url(load_settings())


def _named(name: str) -> str:
    stripped = name.strip()
    if not stripped or not stripped.isprintable():
        raise click.BadParameter("A name is one line of text, and not blank.")
    return stripped


async def _create_organization(url: str, name: str) -> UUID:
    async with transaction(url) as connection:
        return await create_organization(connection, name=name)


async def _organizations(url: str) -> list[Organization]:
    async with transaction(url) as connection:
        return await list_organizations(connection)


async def _find_organization(url: str, name: str) -> Organization:
    async with transaction(url) as connection:
        return await find_organization(connection, name=name)


async def _change_settings(url: str, name: str, changes: dict[str, JsonValue]) -> OrganizationSettings:
    async with transaction(url) as connection:
        owner = await find_organization(connection, name=name)
        return await change_settings(connection, organization_id=owner.id, changes=changes)


async def _create_key(url: str, organization: str, name: str) -> NewApiKey:
    async with transaction(url) as connection:
        owner = await find_organization(connection, name=organization)
        return await create_api_key(connection, organization_id=owner.id, name=name)


async def _keys(url: str, organization: str) -> list[ApiKey]:
    async with transaction(url) as connection:
        owner = await find_organization(connection, name=organization)
        return await list_api_keys(connection, organization_id=owner.id)


async def _revoke_key(url: str, organization: str, key_id: UUID) -> None:
    async with transaction(url) as connection:
        owner = await find_organization(connection, name=organization)
        await revoke_api_key(connection, organization_id=owner.id, key_id=key_id)
