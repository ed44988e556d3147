"""`turn-worker up`."""

from __future__ import annotations

import asyncio
import json
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from worker.cli.access import lasting_key
from worker.cli.local_stack import echo_parts, running_stack
from worker.cli.options import checked_script, llm_option, script_option
from worker.embedded.data_dir import default_data_dir
from worker.embedded.readiness import announce_ready
from worker.settings import load_settings

if TYPE_CHECKING:
    from worker.embedded.llm import LLMName
    from worker.embedded.stack import Stack
    from worker.settings import Settings

_ORGANIZATION: Final = "default"
_SMALLEST_AGENT: Final = {
    "name": "Hello",
    "definition": {
        "nodes": [{"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Be friendly and brief."}}],
        "edges": [],
    },
}


@click.command()
@llm_option
@script_option
@click.option("--host", help="The address the API listens on.  [default: TURN_WORKER_HOST, else 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port the API listens on; 0 takes a free one.  [default: TURN_WORKER_PORT, else 8080]",
)
@click.option(
    "--workers",
    "worker_processes",
    type=click.IntRange(0, 64),
    help="How many worker processes to run.  [default: TURN_WORKER_WORKER_PROCESSES, else 1]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where everything embedded keeps its data.  [default: TURN_WORKER_DATA_DIR, else ~/.local/share/turn-worker]",
)
def up(*, llm: LLMName | None, script: Path | None, **given: object) -> None:
    """Run the whole system on this machine until Ctrl-C, and print how to use it.

    Everything that DATABASE_URL, REDIS_URL and ANTHROPIC_API_KEY do not name is started for it. What it stores is there
    again the next time. A process that ends by itself is started again.
    """
    llm = checked_script(llm, script)
    settings = load_settings()
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    data_dir = settings.data_dir or default_data_dir()
    try:
        with running_stack(settings, data_dir=data_dir, llm=llm, script=script) as stack:
            key = asyncio.run(
                lasting_key(stack.database_url, organization=_ORGANIZATION, file=stack.data_dir / "api_key")
            )
            _welcome(stack, settings, key)
            announce_ready()
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)


def _welcome(stack: Stack, settings: Settings, key: str) -> None:
    headers = [f"Authorization: Bearer {key}", "Content-Type: application/json"]
    request = ["curl", "-s", f"{stack.api_url}/v1/workflows", *(part for each in headers for part in ("-H", each))]
    click.echo(
        f"""
  API         {click.style(stack.api_url, bold=True)}
  Docs        {stack.api_url}/docs
  API key     {click.style(key, bold=True)}  (organization {_ORGANIZATION!r})
"""
    )
    echo_parts(stack, settings)
    click.echo(
        f"""
Create an agent, then POST to /v1/workflows/ID/sessions to talk to it (see the docs):

  {shlex.join([*request, "-d", json.dumps(_SMALLEST_AGENT)])}

The other commands (keys, config, org) work on it in another terminal after:

  . {shlex.quote(str(stack.environment_file))}

Ctrl-C stops everything.
"""
    )
