"""The whole system on this machine, as supervised child processes: what `demo`, `chat` and `up` run on."""

from __future__ import annotations

import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from cryptography.fernet import Fernet

from worker.embedded.data_dir import DataFolder
from worker.embedded.llm import LLMName, describe_llm
from worker.embedded.port import ReservedPort
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.private_files import keep_secret, kept_secret, private_folder
from worker.embedded.program import Program
from worker.embedded.redis import EmbeddedRedis
from worker.embedded.supervisor import Supervisor
from worker.storage.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.embedded.server import EmbeddedServer
    from worker.embedded.supervisor import Supervised
    from worker.settings import Settings

# What API and workers may take to end once the grace period for running turns is over.
_CLOSING_SECONDS = 10.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - translated to loopback, not bound


class Stack:
    """PostgreSQL, Redis, an LLM, the API and workers: each a process, each started again if it ends by itself.

    What the settings name (DATABASE_URL, REDIS_URL) is used; the rest is embedded. Use it as a context manager, or call
    `start` and `stop`. Nothing of it outlives this process, however that ends.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        data_dir: Path,
        llm: LLMName,
        script: Path | None = None,
        log_dir: Path | None = None,
        on_step: Callable[[str], None] = lambda _: None,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe the stack; nothing is started yet.

        Args:
            settings: the API's address, the number of worker processes, the servers to use instead of embedded ones.
            data_dir: where the embedded servers keep their data, and what belongs to it.
            llm: which LLM the workers speak with.
            script: what the scripted LLM says; by default it repeats what it hears.
            log_dir: a folder for the logs of LLM, API and workers; by default they log to this process's standard error.
            on_step: told what is done next, such as `Starting Redis`.
            on_trouble: told what ended unexpectedly and what is done about it, from another thread.
        """
        self.llm = llm
        self.data_dir = data_dir.absolute()
        self._settings = settings
        self._script = script
        self._log_dir = log_dir
        self._on_step = on_step
        self._on_trouble = on_trouble
        self._resources = ExitStack()
        self._variables: dict[str, str] = {}
        self._supervised: list[Supervised] = []

    @property
    def embeds_postgres(self) -> bool:
        """Whether PostgreSQL is embedded, because the settings name none."""
        return self._settings.database_url is None

    @property
    def embeds_redis(self) -> bool:
        """Whether Redis is embedded, because the settings name none."""
        return self._settings.redis_url is None

    @property
    def database_url(self) -> str:
        """PostgreSQL's address, password included. Known once the stack is started, as are the other addresses."""
        return self._variables["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        """Redis's address, password included."""
        return self._variables["REDIS_URL"]

    @property
    def api_url(self) -> str:
        """Where the API answers programs on this machine."""
        host = _ANY_ADDRESS.get(self._settings.host, self._settings.host)
        port = self._variables["TURN_WORKER_PORT"]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def environment_file(self) -> Path:
        """For as long as the stack runs: `export` lines that make the other commands work on it, in another terminal."""
        return self.data_dir / "environment"

    def start(self) -> None:
        """Start everything; returns when the API answers and every worker takes turns.

        Raises:
            EmbeddedServerError: something cannot be started; the message says what and why.
            DatabaseUnavailable: the settings' database cannot be used.
        """
        try:
            self._reserve()
            self._start_llm()
            self._start_servers()
            self._on_step("Checking the database schema")
            migrate(self.database_url)
            self._start_programs()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, in order; running turns may finish within the grace period. Harmless if nothing runs."""
        self._resources.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _reserve(self) -> None:
        settings = self._settings
        port = self._resources.enter_context(ReservedPort(settings.host, settings.port, what="The API"))
        self._variables = {"TURN_WORKER_HOST": settings.host, "TURN_WORKER_PORT": str(port.number)}
        folder = DataFolder(self.data_dir)
        folder.acquire()
        self._resources.callback(folder.release)
        if self._log_dir is not None:
            private_folder(self._log_dir)

    def _start_llm(self) -> None:
        llm = describe_llm(self.llm, self._script, self._log_file("llm"))
        self._variables |= llm.environment
        if llm.program is not None:
            # Not waited for: while it starts, so does everything else.
            self._on_step(f"Starting the {self.llm} LLM")
            self._resources.callback(llm.close)
            llm.program.start()
            self._supervised.append(llm.program)

    def _start_servers(self) -> None:
        settings = self._settings
        self._variables["DATABASE_URL"] = (
            self._serve(EmbeddedPostgres(self.data_dir / "postgres"))
            if settings.database_url is None
            else settings.database_url.get_secret_value()
        )
        self._variables["REDIS_URL"] = (
            self._serve(EmbeddedRedis(self.data_dir / "redis"))
            if settings.redis_url is None
            else settings.redis_url.get_secret_value()
        )
        # Never for a database of somebody's own: what is encrypted there must not depend on a folder here.
        if self.embeds_postgres and settings.secret_key is None:
            secret_key = kept_secret(self.data_dir / "secret_key", lambda: Fernet.generate_key().decode())
            self._variables["TURN_WORKER_SECRET_KEY"] = secret_key

    def _serve(self, server: EmbeddedServer) -> str:
        self._on_step(f"Starting {server.name}")
        self._resources.enter_context(server)
        self._supervised.append(server)
        return server.url

    def _start_programs(self) -> None:
        api = self._program("The API", "api")
        numbers = range(1, self._settings.worker_processes + 1)
        workers = [self._program(f"Worker {number}", "worker", f"worker-{number}") for number in numbers]
        programs = [api, *workers]
        self._on_step(f"Starting the API and {len(workers)} worker process{'' if len(workers) == 1 else 'es'}")
        self._resources.callback(_stop_all, programs)
        for program in programs:
            program.start()
        self._supervised += programs
        for service in self._supervised:
            if isinstance(service, Program):
                service.wait_until_ready()
        self._write_environment()
        supervisor = Supervisor(self._supervised, self._on_trouble)
        supervisor.start()
        self._resources.callback(supervisor.stop)

    def _program(self, name: str, command: str, log: str | None = None) -> Program:
        return Program(
            name,
            # Not from the working folder, which may hold a `worker` of somebody else's.
            [sys.executable, "-P", "-m", "worker", command],
            environment={**os.environ, **self._variables},
            log_file=self._log_file(log or command),
            stop_seconds=self._settings.shutdown_grace_seconds + _CLOSING_SECONDS,
        )

    def _log_file(self, name: str) -> Path | None:
        return None if self._log_dir is None else self._log_dir / f"{name}.log"

    def _write_environment(self) -> None:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self._variables.items()]
        self._resources.callback(self.environment_file.unlink, missing_ok=True)
        keep_secret(self.environment_file, "".join(lines))


def _stop_all(programs: list[Program]) -> None:
    with ThreadPoolExecutor(max_workers=len(programs)) as pool:
        list(pool.map(Program.stop, programs))
