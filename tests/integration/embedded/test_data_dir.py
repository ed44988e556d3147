from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from worker.embedded import data_dir
from worker.embedded.data_dir import DataFolder, default_data_dir
from worker.embedded.errors import DataFolderInUse, EmbeddedServerError
from worker.embedded.process import ChildProcess


def test_data_lies_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_data_dir() == Path("/home/someone/.local/share/turn-worker")


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [("/data", "/data/turn-worker"), ("relative", "/home/someone/.local/share/turn-worker")],
)
def test_the_users_data_folder_can_be_moved_to_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_DATA_HOME", xdg)
    assert default_data_dir() == Path(expected)


def test_a_new_folder_is_its_owners_alone_and_its_parents_stay_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    folder = DataFolder(tmp_path / "data")
    folder.acquire()
    folder.release()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


def test_a_relative_folder_stays_the_same_when_the_program_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(Path("data"))
    monkeypatch.chdir("/")
    assert folder.path == tmp_path / "data"


def test_the_password_is_made_up_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    password = DataFolder(tmp_path).password()
    assert len(password) == 48
    assert DataFolder(tmp_path).password() == password
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600


def test_two_folders_have_different_passwords(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert DataFolder(tmp_path / "a").password() != DataFolder(tmp_path / "b").password()


def test_a_folder_can_be_taken_again_once_it_is_released(tmp_path: Path) -> None:
    for _ in range(2):
        folder = DataFolder(tmp_path)
        folder.acquire()
        with pytest.raises(DataFolderInUse, match=f"is in use by process {os.getpid()}"):
            DataFolder(tmp_path).acquire()
        folder.release()


def test_a_lock_file_left_from_before_a_reboot_does_not_matter(tmp_path: Path) -> None:
    """Its process id may meanwhile belong to any other process."""
    (tmp_path / "owner.lock").write_text(str(os.getppid()))
    folder = DataFolder(tmp_path)
    folder.acquire()
    folder.release()


def test_a_folder_stays_taken_as_long_as_a_server_left_behind_works_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_dir, "_LEFTOVER_SECONDS", 0.05)
    folder = DataFolder(tmp_path)
    folder.acquire()
    with ChildProcess(["/bin/sh", "-c", "exec sleep 600"], pass_fds=[folder.server_lock]):
        folder.release()
        with pytest.raises(DataFolderInUse, match=f"earlier process left behind .*`fuser {tmp_path}/server.lock`"):
            DataFolder(tmp_path).acquire()
    folder.acquire()
    folder.release()


def test_a_folder_that_is_not_taken_has_no_lock_to_pass_on(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="is not locked"):
        _ = DataFolder(tmp_path).server_lock
