"""The data folder of one embedded server: private to its owner, and used by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from pathlib import Path

from worker.embedded.errors import DataFolderInUse, EmbeddedServerError

# A server whose parent was killed needs a moment to end cleanly before its folder can be used again.
_LEFTOVER_SECONDS = 15.0


def default_data_dir() -> Path:
    """Where the embedded servers keep their data unless told otherwise: `turn-worker` in the user's data folder.

    That is `$XDG_DATA_HOME` or `~/.local/share` (XDG Base Directory Specification, which has relative values ignored).

    Raises:
        EmbeddedServerError: this user has no home folder.
    """
    xdg = Path(os.environ.get("XDG_DATA_HOME", ""))
    if xdg.is_absolute():
        return xdg / "turn-worker"
    try:
        return Path.home() / ".local" / "share" / "turn-worker"
    except RuntimeError:
        raise EmbeddedServerError(
            "This user has no home folder to keep the embedded servers' data in. Set TURN_WORKER_DATA_DIR to a folder."
        ) from None


class DataFolder:
    """A folder and the two locks on it, each held through an open file.

    One is this process's own, and the kernel lets go of it when the process ends, however it ends. The server inherits
    the other (`server_lock`), which lasts until its last process has ended. So an owner at work can be told from
    a server that is still ending after its owner was killed, which is worth waiting for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._owner_lock_file = self.path / "owner.lock"
        self._server_lock_file = self.path / "server.lock"
        self._locks: tuple[int, int] | None = None

    @property
    def server_lock(self) -> int:
        """The file descriptor to be inherited by the server."""
        if self._locks is None:
            raise EmbeddedServerError(f"The data folder {self.path} is not locked: start the server first.")
        return self._locks[1]

    @property
    def password_file(self) -> Path:
        """The file that holds the server's password."""
        return self.path / "password"

    def acquire(self) -> None:
        """Create the folder if need be (only its owner may enter) and lock it.

        Raises:
            DataFolderInUse: another process has it, or a server it left behind does not end.
            EmbeddedServerError: the folder cannot be created or written.
        """
        with contextlib.ExitStack() as undo:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                locks = (_open(self._owner_lock_file, undo), _open(self._server_lock_file, undo))
                self._become_owner(locks[0])
                self._wait_for_a_server_left_behind(locks[1])
            except OSError as error:
                raise EmbeddedServerError(
                    f"The data folder {self.path} cannot be used: {error.strerror}. "
                    "Set TURN_WORKER_DATA_DIR to a folder that this user can write to."
                ) from error
            undo.pop_all()
        self._locks = locks

    def release(self) -> None:
        """Let go of the folder. Harmless if it is not held."""
        if self._locks is not None:
            for lock in self._locks:
                os.close(lock)
            self._locks = None

    def password(self) -> str:
        """The server's password, kept in a file that only its owner can read; made up at the first call."""
        with contextlib.suppress(FileNotFoundError):
            return self.password_file.read_text()
        # Written aside and renamed: a password file that exists is whole.
        unfinished = self.path / "password.new"
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_hex(24))
        return unfinished.replace(self.password_file).read_text()

    def _become_owner(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderInUse(
                f"The data folder {self.path} is in use by process {os.pread(lock, 20, 0).decode()}. "
                "Stop that one first, or choose another folder (TURN_WORKER_DATA_DIR)."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)

    def _wait_for_a_server_left_behind(self, lock: int) -> None:
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DataFolderInUse(
                        f"A server that an earlier process left behind still works on the data folder {self.path}. "
                        f"End it first (`fuser {self._server_lock_file}` names it)."
                    ) from None
            time.sleep(0.02)


def _open(file: Path, undo: contextlib.ExitStack) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    undo.callback(os.close, descriptor)
    return descriptor
