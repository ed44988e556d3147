from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from worker.cli.servers import transaction
from worker.storage.organizations import authenticate

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


@pytest.fixture
def acme(done: Callable[..., str]) -> UUID:
    return UUID(done("org", "create", "Acme").strip())


@pytest.fixture
def opens(database_url: str) -> Callable[[str], UUID | None]:
    """Tells which organization a key opens."""

    async def ask(key: str) -> UUID | None:
        async with transaction(database_url) as connection:
            caller = await authenticate(connection, key)
            return None if caller is None else caller.organization_id

    return lambda key: asyncio.run(ask(key))


def test_a_created_organization_is_listed_with_its_id(done: Callable[..., str], acme: UUID) -> None:
    heading, row = done("org", "list").splitlines()
    assert heading.split() == ["NAME", "ID", "CREATED"]
    assert row.split()[:2] == ["Acme", str(acme)]


def test_a_name_that_is_taken_is_refused(command: Callable[..., Result], acme: UUID) -> None:
    result = command("org", "create", "Acme")
    assert result.exit_code == 1
    assert result.stderr == "Error: There is an organization named 'Acme' already. Choose another name.\n"


@pytest.mark.parametrize("name", ["", "  ", "two\nlines"])
def test_a_name_that_is_not_one_line_of_text_is_a_wrong_use(command: Callable[..., Result], name: str) -> None:
    result = command("org", "create", name)
    assert result.exit_code == 2
    assert "A name is one line of text" in result.stderr


def test_a_created_key_opens_its_organization_and_stands_alone_on_standard_output(
    command: Callable[..., Result], acme: UUID, opens: Callable[[str], UUID | None]
) -> None:
    result = command("keys", "create", "--org", "Acme", "--name", "server")
    assert result.exit_code == 0
    assert opens(result.stdout.removesuffix("\n")) == acme
    assert "It is not shown again" in result.stderr


def test_listed_keys_show_what_they_are_for_and_not_themselves(done: Callable[..., str], acme: UUID) -> None:
    key = done("keys", "create", "--org", "Acme", "--name", "server").strip()
    heading, row = done("keys", "list", "--org", "Acme").splitlines()
    assert heading.split() == ["ID", "NAME", "KEY", "CREATED", "STATE"]
    assert row.split()[1] == "server"
    assert row.endswith("in use")
    assert key[:10] in row
    assert key not in row


def test_a_revoked_key_opens_nothing_any_more(
    done: Callable[..., str], command: Callable[..., Result], acme: UUID, opens: Callable[[str], UUID | None]
) -> None:
    key = done("keys", "create", "--org", "Acme").strip()
    key_id = done("keys", "list", "--org", "Acme").splitlines()[1].split()[0]
    assert done("keys", "revoke", "--org", "Acme", key_id) == f"Key {key_id} is revoked.\n"
    assert opens(key) is None
    assert "revoked 2" in done("keys", "list", "--org", "Acme")
    again = command("keys", "revoke", "--org", "Acme", key_id)
    assert again.exit_code == 1
    assert f"no key {key_id} in use" in again.stderr


def test_another_organizations_key_cannot_be_revoked(
    done: Callable[..., str], command: Callable[..., Result], acme: UUID
) -> None:
    done("org", "create", "Other")
    done("keys", "create", "--org", "Acme")
    key_id = done("keys", "list", "--org", "Acme").splitlines()[1].split()[0]
    assert command("keys", "revoke", "--org", "Other", key_id).exit_code == 1
    assert "in use" in done("keys", "list", "--org", "Acme")


@pytest.mark.parametrize("arguments", [("create",), ("list",), ("revoke", "01a20aff-2b0a-7654-a816-3c17ff0f3182")])
def test_keys_of_an_organization_that_is_not_there_are_an_error(
    command: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    result = command("keys", *arguments, "--org", "Nobody")
    assert result.exit_code == 1
    assert result.stderr == "Error: There is no organization 'Nobody'. Create it with `turn-worker org create`.\n"


def test_an_id_that_is_none_is_a_wrong_use(command: Callable[..., Result]) -> None:
    assert command("keys", "revoke", "--org", "Acme", "17").exit_code == 2


def test_settings_are_set_shown_and_returned_to_their_defaults(done: Callable[..., str], acme: UUID) -> None:
    done("org", "set", "Acme", "limits.max_running_turns=5", "allowed_hosts=crm.lan")
    printed = json.loads(done("org", "set", "Acme", "limits.max_pending_turns=100"))
    shown = json.loads(done("org", "show", "Acme"))
    expected = {"limits": {"max_running_turns": 5, "max_pending_turns": 100}, "allowed_hosts": ["crm.lan"]}
    assert printed == shown["settings"] == expected
    assert (shown["id"], shown["name"]) == (str(acme), "Acme")
    assert json.loads(done("org", "set", "Acme", "limits.max_running_turns=null", "allowed_hosts=null")) == {
        "limits": {"max_pending_turns": 100}
    }


def test_wrong_settings_are_all_named_and_nothing_is_set(
    command: Callable[..., Result], done: Callable[..., str], acme: UUID
) -> None:
    result = command("org", "set", "Acme", "limits.max_running_turns=none", "retention.years=1", "allowed_hosts=a.lan")
    assert result.exit_code == 1
    assert "limits.max_running_turns: Input should be a valid integer" in result.stderr
    assert "retention.years: there is no such setting" in result.stderr
    assert json.loads(done("org", "show", "Acme"))["settings"] == {}


def test_settings_of_an_unknown_organization_are_refused(command: Callable[..., Result]) -> None:
    assert "There is no organization 'Acme'" in command("org", "show", "Acme").stderr
