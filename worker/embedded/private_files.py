"""What the embedded stack keeps in its data folder for this user alone: above all, secrets it made up once."""

from __future__ import annotations

import os
from errno import EACCES
from typing import TYPE_CHECKING

from worker.embedded.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def private_folder(path: Path) -> None:
    """Make a folder that only this user may enter, if it is not there.

    Raises:
        EmbeddedServerError: when it cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as error:
        raise _unusable(path, error) from error


def read_secret(path: Path) -> str | None:
    """The secret that is kept in this file; None if none is.

    Raises:
        EmbeddedServerError: when it is there and cannot be read.
    """
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path.parent, error) from error


def keep_secret(path: Path, secret: str) -> None:
    """Write a secret, so that only this user can read it.

    Raises:
        EmbeddedServerError: when the folder cannot be written.
    """
    # Written aside and renamed: a file that exists is whole.
    unfinished = path.with_name(f"{path.name}.new")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(secret)
        unfinished.replace(path)
    except OSError as error:
        raise _unusable(path.parent, error) from error


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret kept in this file, made and written at the first call.

    Raises:
        EmbeddedServerError: when the file cannot be read or written.
    """
    secret = read_secret(path)
    if secret is None:
        secret = make()
        keep_secret(path, secret)
    return secret


def _unusable(folder: Path, error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"The data folder {folder} cannot be used: {error.strerror}. "
        "Set TURN_WORKER_DATA_DIR to a folder that this user can write to."
    )
