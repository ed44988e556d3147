"""A program of the stack: started as a child process, watched until it is ready, stopped, started again."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from worker.embedded.errors import ServerStartFailed
from worker.embedded.process import ChildProcess
from worker.embedded.readiness import ADDRESS_VARIABLE, ReadinessSocket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_START_SECONDS = 60.0
_QUOTED_LOG_LINES = 15
_CONNECT_SECONDS = 1.0
_STANDARD_ERROR = 2


class Readiness(Protocol):
    """How one sees that a program has begun to do its work."""

    def was_announced(self) -> bool:
        """Whether it is ready."""
        ...


class Listening:
    """A program is ready as soon as it accepts connections."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._address = (host, port)

    def was_announced(self) -> bool:
        """Whether somebody listens on the port."""
        try:
            with socket.create_connection(self._address, timeout=_CONNECT_SECONDS):
                return True
        except OSError:
            return False


class Program:
    """A child process that can be started again. It does not outlive this process, however that ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        readiness: Readiness | None = None,
        log_file: Path | None = None,
        stop_seconds: float = 10.0,
    ) -> None:
        """Describe the program; nothing is started yet.

        Args:
            name: what people call it, in messages.
            command: the program and its arguments.
            environment: its environment.
            readiness: how one sees that it is ready; by default it says so itself (see `worker.embedded.readiness`).
            log_file: where its output is appended; by default it goes to this process's standard error.
            stop_seconds: how long it may take to stop before it is killed.
        """
        self.name = name
        self.log_file = log_file
        self._command = command
        self._environment = dict(environment)
        self._stop_seconds = stop_seconds
        self._process: ChildProcess | None = None
        self._log_start = 0
        self._socket = ReadinessSocket() if readiness is None else None
        if self._socket is not None:
            self._environment[ADDRESS_VARIABLE] = self._socket.address
        self._readiness = readiness or self._socket

    @property
    def is_running(self) -> bool:
        """Whether it was started and has neither been stopped nor ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id; None when it is not running."""
        return self._process.pid if self._process is not None and self.is_running else None

    def start(self) -> None:
        """Start it, and return at once.

        Raises:
            ServerStartFailed: the program cannot be run at all.
        """
        try:
            with self._log() as log:
                self._process = ChildProcess(self._command, env=self._environment, output=log)
        except OSError as error:
            raise ServerStartFailed(f"{self.name} cannot be started: {error.strerror} ({error.filename}).") from error

    def wait_until_ready(self) -> None:
        """Return as soon as it is ready.

        Raises:
            ServerStartFailed: it ended instead, or took too long; the message quotes its log.
        """
        deadline = time.monotonic() + _START_SECONDS
        while self._readiness is not None and not self._readiness.was_announced():
            status = self._process.wait(timeout=0.02) if self._process is not None else 0
            if status is not None:
                raise self._start_failed(f"ended with status {status} instead of starting")
            if time.monotonic() > deadline:
                raise self._start_failed(f"was not ready within {_START_SECONDS:.0f} seconds")

    def restart(self) -> None:
        """Start it again after it ended."""
        self._end()
        self.start()

    def stop(self) -> None:
        """Stop it, and kill it when it takes too long. Harmless if it is not running."""
        self._end()
        if self._socket is not None:
            self._socket.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.stop(self._stop_seconds)
            self._process = None

    @contextmanager
    def _log(self) -> Iterator[int]:
        if self.log_file is None:
            yield _STANDARD_ERROR
            return
        log = os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._log_start = os.fstat(log).st_size
            yield log
        finally:
            os.close(log)

    def _start_failed(self, what: str) -> ServerStartFailed:
        if self.log_file is None:
            return ServerStartFailed(f"{self.name} {what}. Its own message stands above.")
        with self.log_file.open(errors="replace") as log:
            log.seek(self._log_start)
            lines = log.read().splitlines()[-_QUOTED_LOG_LINES:]
        quoted = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return ServerStartFailed(f"{self.name} {what}. The end of its log ({self.log_file}):\n{quoted}")
