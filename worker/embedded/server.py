"""What the embedded servers have in common: a data folder, a port on loopback, a log, a start and an end."""

from __future__ import annotations

import os
import socket
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from worker.embedded.data_dir import DataFolder
from worker.embedded.errors import EmbeddedServerError, ServerStartFailed

if TYPE_CHECKING:
    from pathlib import Path

    from worker.embedded.process import ChildProcess

_START_SECONDS = 60.0
_QUOTED_LOG_LINES = 15


class EmbeddedServer(ABC):
    """A database server that this process starts, owns and stops.

    Use it as a context manager, or call `start` and `stop`. It listens on 127.0.0.1 only and asks for a password,
    which is made up once and kept in the data folder. It stops when this process ends, however it ends.
    """

    name: ClassVar[str]

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        """Describe the server; nothing is started yet.

        Args:
            data_dir: the folder for its data; created, for its owner only, if it does not exist.
            port: the TCP port on 127.0.0.1; by default a free one, kept for the life of this object.
        """
        self._folder = DataFolder(data_dir)
        self._port = port
        self._password: str | None = None
        self._reservation: socket.socket | None = None
        self._process: ChildProcess | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where and as whom to connect, password included. Known once it was started, and the same ever after."""

    @property
    def is_running(self) -> bool:
        """Whether it was started and has neither been stopped nor ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise EmbeddedServerError(f"The embedded {self.name} is not running.")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """Where the server writes its log."""
        return self._folder.path / "server.log"

    def start(self) -> None:
        """Start the server and return once it accepts connections.

        Raises:
            ServerNotInstalled: its programs are not on this machine.
            DataFolderInUse: another process works on the same data.
            ServerStartFailed: it did not come up; the message quotes its log.
            EmbeddedServerError: the folder or the port cannot be used, or it is running already.
        """
        if self.is_running:
            raise EmbeddedServerError(f"The embedded {self.name} is running already (process {self.pid}).")
        self._end_process()
        try:
            self._folder.acquire()
            self._password = self._folder.password()
            self._reserve_port()
            self._run()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server cleanly and let go of its folder and port. Harmless if it is not running."""
        self._end_process()
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def restart(self) -> None:
        """Stop the server, or clear up after its crash, and start it again on the same data and the same port."""
        self._end_process()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _launch(self, log: int) -> ChildProcess:
        """Prepare the data and start the program, its output going to the file descriptor `log`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it accepts connections."""

    @property
    def _address(self) -> str:
        """The part of every URL of this server that begins with its password."""
        if self._password is None:
            raise EmbeddedServerError(f"The embedded {self.name} has no address before it is started.")
        return f"{self._password}@127.0.0.1:{self._port}"

    def _run(self) -> None:
        log = os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._log_start = os.fstat(log).st_size
            self._process = self._launch(log)
        finally:
            os.close(log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            status = self._process.wait(timeout=0.01)
            if status is not None:
                raise self._start_failed(f"ended with status {status}")
            if time.monotonic() > deadline:
                raise self._start_failed(f"accepted no connection within {_START_SECONDS:.0f} seconds")

    def _start_failed(self, what: str) -> ServerStartFailed:
        with self.log_file.open(errors="replace") as log:
            log.seek(self._log_start)
            lines = log.read().splitlines()[-_QUOTED_LOG_LINES:]
        quoted = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return ServerStartFailed(f"The embedded {self.name} {what}. The end of its log ({self.log_file}):\n{quoted}")

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None
        # Let go of even for a restart: to take it again waits for what a crash of the server may have left running.
        self._folder.release()

    def _reserve_port(self) -> None:
        if self._reservation is not None:
            return
        # On Linux two sockets that both set SO_REUSEADDR, as the servers do, may be bound to one port as long as only
        # one of them listens. Holding ours keeps the port from being given to anyone else before the server
        # listens and while it restarts.
        reservation = socket.socket()
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind(("127.0.0.1", self._port or 0))
        except OSError as error:
            reservation.close()
            raise EmbeddedServerError(
                f"Port {self._port} for the embedded {self.name} cannot be used: {error.strerror}. Choose another."
            ) from error
        self._port = reservation.getsockname()[1]
        if sys.platform == "linux":
            self._reservation = reservation
        else:
            reservation.close()
