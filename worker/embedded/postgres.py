"""A real PostgreSQL server as a child process."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import sys
from pathlib import Path

import psycopg
from psycopg import pq

from worker.embedded.binaries import find_postgres, major_version
from worker.embedded.process import ChildProcess
from worker.embedded.server import EmbeddedServer

_NAME = "turn_worker"  # of the user and of the database
_BUILTIN_LOCALES_SINCE = 17
_PING_SECONDS = 5


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server in the given data folder, with a database `turn_worker` owned by its one user."""

    name = "PostgreSQL"

    def __init__(
        self, data_dir: Path, *, port: int | None = None, max_connections: int = 200, durable: bool = True
    ) -> None:
        """Describe the server; nothing is started yet.

        Args:
            data_dir: the folder for its data; created, for its owner only, if it does not exist.
            port: the TCP port on 127.0.0.1; by default a free one, kept for the life of this object.
            max_connections: how many connections it accepts at once.
            durable: whether what was committed survives a crash. Off, it is faster, and good for tests only.
        """
        super().__init__(data_dir, port=port)
        self._max_connections = max_connections
        self._durable = durable

    @property
    def url(self) -> str:
        """`postgresql://turn_worker:PASSWORD@127.0.0.1:PORT/turn_worker`, for psycopg and SQLAlchemy."""
        return self.database_url(_NAME)

    def database_url(self, database: str) -> str:
        """The URL of another database of this server."""
        return f"postgresql://{_NAME}:{self._address}/{database}"

    @property
    def _data(self) -> Path:
        return self._folder.path / "data"

    def _launch(self, log: int) -> ChildProcess:
        programs = find_postgres()
        if not self._data.exists():
            self._initialise(programs, log)
        self._forget_pid_of_another_time()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": self._max_connections,
            "log_checkpoints": "off",
            # Until then, a connection whose maker gave up halfway holds up whoever drops a database.
            "authentication_timeout": "5s",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return self._program(self._data, [programs / "postgres", "-D", self._data, *options], log)

    def _initialise(self, programs: Path, log: int) -> None:
        # Made aside and renamed: data that exists is whole.
        unfinished = self._folder.path / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = [
            f"--username={_NAME}",
            f"--pwfile={self._folder.password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]
        if major_version(programs) >= _BUILTIN_LOCALES_SINCE:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self._durable:
            options.append("--no-sync")
        with self._program(unfinished, [programs / "initdb", "-D", unfinished, *options], log) as initdb:
            status = initdb.wait()
        if status != 0:
            raise self._start_failed(f"could not create its data (initdb ended with status {status})")
        unfinished.rename(self._data)

    def _forget_pid_of_another_time(self) -> None:
        # PostgreSQL refuses to start while a process has the id in its pid file. After a reboot, or a crash long
        # ago, that may be any process. One that is called postgres is left for PostgreSQL to judge.
        pid_file = self._data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):  # no pid file, no such process, or no /proc
            pid = pid_file.read_text().partition("\n")[0]
            if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
                pid_file.unlink()

    def _program(self, data: Path, command: list[str | Path], log: int) -> ChildProcess:
        if not _postgres_accepts_this_user():
            launcher = Path(__file__).with_name("unprivileged.py")
            command = [sys.executable, "-I", "-S", launcher, data, *command]
        return ChildProcess(
            command,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions of its clients, then checkpoints
            env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
            cwd=self._folder.path,
            output=log,
            pass_fds=[self._folder.server_lock],
        )

    def _is_ready(self) -> bool:
        return pq.PGconn.ping(f"{self.url}?connect_timeout={_PING_SECONDS}".encode()) == pq.Ping.OK

    def _run(self) -> None:
        super()._run()
        try:
            with psycopg.connect(self.database_url("postgres"), autocommit=True) as connection:
                if connection.execute("SELECT FROM pg_database WHERE datname = %s", [_NAME]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {_NAME}")
        except psycopg.Error as error:
            raise self._start_failed(f"refused its own user ({str(error).strip()})") from error


def _postgres_accepts_this_user() -> bool:
    """Neither `postgres` runs as root nor `initdb` as a user id that has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_uid != 0
    except KeyError:
        return False
