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
    """A folder and the lock on it.

    The lock is held through an open file that the server inherits (`lock_fd`): it lasts as long as this process
    or the server lives, whatever kills either, and never longer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def lock_fd(self) -> int:
        """The file descriptor that holds the lock, to be inherited by the server."""
        if self._lock is None:
            raise EmbeddedServerError(f"The data folder {self.path} is not locked: start the server first.")
        return self._lock

    @property
    def _lock_file(self) -> Path:
        return self.path / "lock"

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
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._take(lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise EmbeddedServerError(
                f"The data folder {self.path} cannot be used: {error.strerror}. "
                "Set TURN_WORKER_DATA_DIR to a folder that this user can write to."
            ) from error
        self._lock = lock

    def release(self) -> None:
        """Let go of the folder. Harmless if it is not held."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def password(self) -> str:
        """The server's password, kept in a file that only its owner can read; made up at the first call."""
        with contextlib.suppress(FileNotFoundError):
            return self.password_file.read_text()
        # Written aside and renamed: a password file that exists is whole.
        unfinished = self.path / "password.new"
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_hex(24))
        return unfinished.replace(self.password_file).read_text()

    def _take(self, lock: int) -> None:
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            holder = os.pread(lock, 20, 0).decode()
            if holder and _is_alive(int(holder)):
                raise DataFolderInUse(
                    f"The data folder {self.path} is in use by process {holder}. "
                    "Stop that one first, or choose another folder (TURN_WORKER_DATA_DIR)."
                )
            if time.monotonic() > deadline:
                raise DataFolderInUse(
                    f"A server that an earlier process left behind still works on the data folder {self.path}. "
                    f"End it first (`fuser {self._lock_file}` names it)."
                )
            time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
