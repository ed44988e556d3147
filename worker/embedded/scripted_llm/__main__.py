"""The scripted LLM as a process of its own: `python -m worker.embedded.scripted_llm --port 8090 --script script.json`."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from worker.embedded.scripted_llm.errors import InvalidScript, ScriptedLLMFailed
from worker.embedded.scripted_llm.script import Script
from worker.embedded.scripted_llm.server import ScriptedLLM


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=0, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option(
    "--script",
    "path",
    type=click.Path(path_type=Path),
    help="A JSON file that says what the model does. Default: echo.",
)
@click.option(
    "--keep-requests",
    default=1_000,
    show_default=True,
    help="How many of the latest requests /scripted/requests shows.",
)
def main(host: str, port: int, path: Path | None, keep_requests: int) -> None:
    """Serve a scripted LLM over the Anthropic and the OpenAI API until Ctrl-C or SIGTERM."""
    # Blocked before any thread starts, so that every thread leaves these signals to `sigwait`.
    stop_signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    try:
        script = Script.from_file(path) if path else Script()
        server = ScriptedLLM(script, host=host, port=port, keep_requests=keep_requests).start()
    except (InvalidScript, ScriptedLLMFailed) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Scripted LLM at {server.base_url} (Anthropic), {server.base_url}/v1 (OpenAI)")
    signal.sigwait(stop_signals)
    server.stop()


if __name__ == "__main__":
    main()
