"""The command `turn-worker`: finds its commands, and says what went wrong in one message instead of a traceback."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from worker.errors import TurnWorkerError
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Place(NamedTuple):
    """Where a command is defined, and what the overview says about it, so that the overview loads none of them."""

    module: str
    name: str
    summary: str


_COMMANDS: Final[Mapping[str, _Place]] = {
    "demo": _Place("demo", "demo", "Watch an example agent hold a conversation through the whole system."),
    "up": _Place("up", "up", "Run the whole system on this machine until Ctrl-C."),
    "chat": _Place("chat", "chat", "Talk to an agent in the terminal, through the whole system."),
    "validate": _Place("validate", "validate", "Check a workflow and name every problem in it."),
    "api": _Place("api", "api", "Run the HTTP API."),
    "worker": _Place("worker", "worker", "Run a worker process."),
    "migrate": _Place("migrate", "migrate", "Bring the database to the schema this version needs."),
    "org": _Place("organizations", "org", "Create, list and configure organizations."),
    "keys": _Place("organizations", "keys", "Create, list and revoke an organization's API keys."),
    "usage": _Place("usage", "usage", "Show what an organization used and what it cost."),
    "config": _Place("config", "config", "Set and show an organization's LLM defaults and secrets."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called or asked for their own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(f"worker.cli.{place.module}"), place.name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place.module}.{place.name} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if _wants_tracebacks(ctx) or not _is_explained(error):
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pipecat-turn-worker", prog_name="turn-worker")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (as TURN_WORKER_LOG_LEVEL=DEBUG does).")
@click.pass_context
def turn_worker(ctx: click.Context, *, debug: bool) -> None:  # noqa: ARG001 - read when something goes wrong
    """Run the turns of text conversations with node-graph agents, in the background.

    Begin with `turn-worker demo`. On a machine with nothing installed, `demo`, `chat` and `up` start PostgreSQL, Redis and
    a scripted LLM of their own; what DATABASE_URL, REDIS_URL and ANTHROPIC_API_KEY name is used instead.
    """
    # https://no-color.org; otherwise click decides by whether it writes to a terminal.
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main() -> None:
    """Run the command that the arguments name. The exit status is 1 after an error and 2 after a wrong use."""
    turn_worker(prog_name="turn-worker")


def _wants_tracebacks(ctx: click.Context) -> bool:
    if ctx.params.get("debug"):
        return True
    try:
        return load_settings().log_level == "DEBUG"
    except TurnWorkerError:
        return False


def _is_explained(error: Exception) -> bool:
    """Whether the error's message is meant for whoever called the command."""
    # Looked up rather than imported: only who used the client can have got its errors.
    client_errors = sys.modules.get("api_stub.client.errors")
    return isinstance(error, TurnWorkerError) or (
        client_errors is not None and isinstance(error, client_errors.ClientError)
    )
