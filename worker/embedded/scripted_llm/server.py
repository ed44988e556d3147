"""A scripted LLM in this process, on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Self

from aiohttp import web

from worker.embedded.scripted_llm.app import ScriptedApp
from worker.embedded.scripted_llm.errors import ScriptedLLMFailed
from worker.embedded.scripted_llm.recorder import RecordedRequest, Recorder
from worker.embedded.scripted_llm.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_BACKLOG = 2048
_SHUTDOWN_SECONDS = 0.01  # aiohttp takes 0 for no limit and would wait for held replies for ever


class ScriptedLLM:
    """An HTTP server that speaks the Anthropic and the OpenAI API and answers as a script says.

    Use it as a context manager, or call `start` and `stop`. All methods may be called from any thread.

    Args:
        script: What the model does. Default: nothing but the built-in rules, which repeat what they hear.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        keep_requests: How many of the latest requests are recorded.
    """

    def __init__(
        self, script: Script | None = None, *, host: str = "127.0.0.1", port: int = 0, keep_requests: int = 1_000
    ) -> None:
        self._script = script or Script()
        self._host = host
        self._port = port
        self._recorder = Recorder(keep_requests)
        self._app: ScriptedApp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: Thread | None = None

    @property
    def base_url(self) -> str:
        """The address for an Anthropic client; an OpenAI client takes it with `/v1` added."""
        return f"http://{self._host}:{self._port}"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in order of arrival."""
        return self._recorder.all()

    def start(self) -> Self:
        """Start serving; returns when connections are accepted.

        Raises:
            ScriptedLLMFailed: The address cannot be listened on.
        """
        ready: Future[int] = Future()
        self._thread = Thread(target=self._run, args=(ready,), name="scripted-llm", daemon=True)
        self._thread.start()
        try:
            self._port = ready.result()
        except OSError as error:
            self._thread.join()
            self._thread = None
            raise ScriptedLLMFailed(
                f"The scripted LLM cannot listen on {self._host}:{self._port}: {error.strerror or error}. "
                "Name another port, or 0 for any free one."
            ) from error
        return self

    def stop(self) -> None:
        """Stop serving; replies under way are cut off. Does nothing when it is not running."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = self._loop = self._stop = self._app = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def set_script(self, script: Script) -> None:
        """Answer by another script from now on.

        Its `times` count from zero. Names that were released hold again; replies that are held stay held.
        """
        self._script = script
        self._on_loop(lambda app: app.set_script(script))

    def release(self, name: str) -> None:
        """Let the replies of rules with this `hold` go, those that wait and those to come."""
        self._on_loop(lambda app: app.release(name))

    def clear(self) -> None:
        """Forget the recorded requests."""
        self._recorder.clear()

    async def wait_for_request(
        self,
        matching: Callable[[RecordedRequest], bool] = lambda _: True,
        *,
        count: int = 1,
        timeout_seconds: float = 10,
    ) -> RecordedRequest:
        """Wait until `count` recorded requests match, and return the `count`-th of them.

        Requests that arrived before the call count, so there is no race between asking and waiting.

        Raises:
            ScriptedLLMFailed: It did not happen within `timeout_seconds`.
        """
        return await self._recorder.wait_for(matching, count, timeout_seconds)

    def _on_loop(self, do: Callable[[ScriptedApp], None]) -> None:
        """Do something on the server's loop and return when it is done."""
        if self._loop is None or self._app is None:
            return
        app, done = self._app, Future[None]()

        def run() -> None:
            do(app)
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result()

    def _run(self, ready: Future[int]) -> None:
        with asyncio.Runner(loop_factory=_event_loop_factory()) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._app = ScriptedApp(self._script, self._recorder)
        runner = web.AppRunner(
            self._app.application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            handle_signals=False,
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, backlog=_BACKLOG)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            ready.set_exception(error)
            return
        ready.set_result(runner.addresses[0][1])
        await self._stop.wait()
        await runner.cleanup()


def _event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where there is uvloop: it halves the cost of a reply."""
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not installed on Windows

    return uvloop.new_event_loop
