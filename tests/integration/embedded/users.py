"""Running a command as another user, or confined as in a container, on a machine where we are root."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


def _can_confine() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


as_root_on_linux = pytest.mark.skipif(
    not _can_confine(), reason="only root on Linux, with the right to mount, can act as another user"
)

# Whoever is not root may be unable to reach the interpreter, as with one installed in root's home. So each folder
# it needs is mounted, for this command only, below a folder that all can enter.
_AS_USER = """
set -e
cd /
user=$1 public=$2
shift 2
while [ "$1" != -- ]; do
    mount --bind "$1" "$public/$2"
    shift 2
done
shift
exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
"""

_IN_CHROOT = """
set -e
mount --rbind / "$1"
exec chroot "$@"
"""


def as_user(user: int, public: Path, script: Path, *arguments: str) -> list[str]:
    """The command that runs a Python script of these tests as `user`, with the interpreter below `public`."""
    folders = {"python": Path(sys.base_prefix), "packages": Path(sysconfig.get_path("purelib")), "project": PROJECT}
    mounts: list[str] = []
    for name, folder in folders.items():
        (public / name).mkdir()
        mounts += [str(folder), name]
    python = public / "python" / Path(sys.executable).resolve().relative_to(sys.base_prefix)
    return [
        *("unshare", "--mount", "sh", "-c", _AS_USER, "sh", str(user), str(public), *mounts, "--"),
        *("env", f"PYTHONPATH={public}/project:{public}/packages", f"LD_LIBRARY_PATH={public}/python/lib"),
        *(str(python), "-W", "error"),
        *(str(public / "project" / script.relative_to(PROJECT)), *arguments),
    ]


def in_chroot(root: Path, command: list[str]) -> list[str]:
    """The command in a place like a container's, where the kernel lets even root make no user namespace."""
    return ["unshare", "--mount", "sh", "-c", _IN_CHROOT, "sh", str(root), *command]
