"""`turn-worker config`: an organization's LLM defaults, and the secrets they refer to."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from getpass import getpass
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import ValidationError

from worker.cli.options import assignments, json_option
from worker.cli.servers import database_url, transaction
from worker.cli.tables import moment
from worker.errors import TurnWorkerError
from worker.settings import environment_secret, load_settings
from worker.storage.organizations import find_organization, set_model_defaults
from worker.storage.secrets import SecretNotFound, Vault, delete_secret, get_secret, list_secrets, put_secret
from worker.workflow.model_configuration import (
    ModelConfiguration,
    ModelOverrides,
    configuration_problems,
    effective_configuration,
    keyed_choices,
)
from worker.workflow.service_account import SERVICE_ACCOUNT_PROVIDERS, service_account_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.secrets import SecretName

_UNUSABLE: Final = "These LLM defaults cannot be used:"
_FIELDS: Final = tuple(ModelConfiguration.model_fields)


class InvalidConfiguration(TurnWorkerError):
    """An organization's LLM defaults cannot be what they were set to."""

    code = "invalid_configuration"


@dataclass(slots=True)
class _Change:
    defaults: Mapping[str, Any]
    unset: Sequence[str]
    deleted_secret: str | None
    secret: tuple[str, str] | None = None


@click.group()
def config() -> None:
    """Set and show an organization's LLM defaults and secrets.

    What an organization does not set is the operator's: ANTHROPIC_API_KEY and the other variables of the workers.
    """


_organization = click.option("--org", "organization", required=True, metavar="NAME", help="Whose configuration.")


@config.command(
    "set",
    epilog="""\b
For example, an organization with a key of its own, which is then asked for:
  turn-worker config set --org acme --secret acme-key --api-key-secret acme-key""",
)
@_organization
@click.option(
    "--provider",
    help="Such as anthropic or openai; a wrong one is told which there are. A new one drops what was the old one's.",
)
@click.option("--model", help="The provider's name of the model.")
@click.option("--base-url", help="Another address of the provider's API. A new one drops the API key.")
@click.option("--api-key-secret", metavar="NAME", help="The name of the stored secret that is the API key.")
@click.option("--api-key-env", metavar="VARIABLE", help="Instead: the environment variable of the workers that is it.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="The most tokens of one reply.")
@click.option("--temperature", type=click.FloatRange(min=0), help="The sampling temperature.")
@click.option("--effort", help="How much it thinks before it answers: minimal, low, medium, high or max.")
@click.option(
    "--fallback",
    metavar="JSON",
    help='What to call when this model fails for good or is overloaded, e.g. {"model": "..."} or with "provider", '
    '"api_key": {"secret": "NAME"}.',
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A further parameter of the provider's API, its value in JSON. May be repeated.",
)
@click.option("--unset", multiple=True, type=click.Choice(_FIELDS), help="Back to the operator's. May be repeated.")
@click.option("--secret", metavar="NAME", help="Store a secret under this name. Its value is read, see above.")
@click.option("--from-env", metavar="VARIABLE", help="The secret's value is in this environment variable.")
@click.option("--delete-secret", metavar="NAME", help="Forget a secret.")
def set_config(
    *,
    organization: str,
    provider: str | None,
    model: str | None,
    base_url: str | None,
    api_key_secret: str | None,
    api_key_env: str | None,
    max_tokens: int | None,
    temperature: float | None,
    effort: str | None,
    fallback: str | None,
    parameters: tuple[str, ...],
    unset: tuple[str, ...],
    secret: str | None,
    from_env: str | None,
    delete_secret: str | None,
) -> None:
    """Set an organization's LLM defaults, field by field, and its secrets.

    The defaults hold for every turn that begins from then on. A secret's value is asked for on a terminal and otherwise
    read from standard input: it is no argument, which every user of the machine could see. It is encrypted with
    TURN_WORKER_SECRET_KEY, and nobody is shown it again.
    """
    if api_key_secret and api_key_env:
        raise click.UsageError("The API key is one of both: --api-key-secret or --api-key-env.")
    reference = {"secret": api_key_secret} if api_key_secret else {"environment": api_key_env} if api_key_env else None
    given = {
        "provider": provider,
        "model": model,
        "base_url": base_url,
        "api_key": reference,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "effort": effort,
        "fallback": None if fallback is None else json_option(fallback, "--fallback"),
        "parameters": assignments(parameters, "--parameter"),
    }
    changes = {name: value for name, value in given.items() if value not in (None, {})}
    if not (changes or unset or secret or delete_secret):
        raise click.UsageError("Nothing to set. `turn-worker config set --help` lists what there is.")
    if from_env and not secret:
        raise click.UsageError("--from-env is where the value of --secret is. Name the secret too.")
    settings = load_settings()
    change = _Change(changes, unset, delete_secret)
    if secret is not None:
        change.secret = (secret, _secret_value(secret, from_env))
    asyncio.run(_apply(database_url(settings), Vault(settings.secret_key), organization, change))
    click.echo("Set. `turn-worker config show` shows how it stands.")


@config.command("show")
@_organization
def show_config(organization: str) -> None:
    """Show an organization's LLM defaults as JSON, and the names of its secrets."""
    defaults, secrets = asyncio.run(_show(database_url(load_settings()), organization))
    document: dict[str, Any] = {
        "model_defaults": defaults,
        "secrets": [{"name": secret.name, "updated_at": moment(secret.updated_at)} for secret in secrets],
    }
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _secret_value(name: str, variable: str | None) -> str:
    if variable is not None:
        secret = environment_secret(variable)
        if secret is None:
            raise click.BadParameter(f"The environment variable {variable} is not set.", param_hint="--from-env")
        return secret.get_secret_value()
    value = getpass(f"Value of {name}: ") if sys.stdin.isatty() else sys.stdin.read()
    if not value.strip():
        raise click.UsageError("The value is empty. Give it on standard input, or name a variable with --from-env.")
    return value.strip()


def _changed(
    current: Mapping[str, Any] | None, changes: Mapping[str, Any], unset: Sequence[str]
) -> dict[str, Any] | None:
    """The defaults after a change; None when nothing of them is left."""
    kept = {name: value for name, value in (current or {}).items() if name not in unset}
    try:
        # The rule for definitions holds here as well: a key is only ever sent where its owner meant it to go.
        changed = effective_configuration(
            ModelConfiguration.model_validate(kept), ModelOverrides.model_validate(dict(changes))
        )
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise InvalidConfiguration("\n".join([_UNUSABLE, *problems])) from None
    if unusable := [f"  {field}: {message}" for field, message in configuration_problems(changed)]:
        raise InvalidConfiguration("\n".join([_UNUSABLE, *unusable]))
    document = changed.model_dump(mode="json", exclude_none=True)
    if not document["parameters"]:
        del document["parameters"]
    if "provider" not in kept and "provider" not in changes:
        del document["provider"]
    return document or None


async def _apply(url: str, vault: Vault, organization: str, change: _Change) -> None:
    async with transaction(url) as connection:
        owner = await find_organization(connection, name=organization)
        if change.secret is not None:
            name, value = change.secret
            await put_secret(connection, vault, organization_id=owner.id, name=name, value=value)
        defaults = _changed(owner.model_defaults, change.defaults, change.unset)
        await set_model_defaults(connection, organization_id=owner.id, model_defaults=defaults)
        if change.deleted_secret is not None:
            await delete_secret(connection, organization_id=owner.id, name=change.deleted_secret)
        await _check_keys(connection, vault, owner.id, ModelConfiguration.model_validate(defaults or {}))


async def _check_keys(
    connection: AsyncConnection, vault: Vault, organization_id: UUID, defaults: ModelConfiguration
) -> None:
    stored = {each.name for each in await list_secrets(connection, organization_id=organization_id)}
    for field, name, choice in keyed_choices(defaults):
        if name not in stored:
            raise SecretNotFound(name)
        if choice.provider in SERVICE_ACCOUNT_PROVIDERS:
            key = await get_secret(connection, vault, organization_id=organization_id, name=name)
            if (problem := service_account_problem(key, choice.base_url)) is not None:
                raise InvalidConfiguration(f"{_UNUSABLE}\n  {field}: {problem}")


async def _show(url: str, organization: str) -> tuple[dict[str, Any] | None, list[SecretName]]:
    async with transaction(url) as connection:
        owner = await find_organization(connection, name=organization)
        return owner.model_defaults, await list_secrets(connection, organization_id=owner.id)
