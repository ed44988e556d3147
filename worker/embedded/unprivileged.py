"""Run as a script: gives up being root, then becomes the given program.

`python unprivileged.py DATA PROGRAM [ARGUMENT...]`, where DATA is the folder the program will own or owns already.

PostgreSQL refuses to run as root, and its `initdb` as a user without a passwd entry, so this stands between. It
adds no users and opens no folders. Two ways, the first that the machine permits:

1. A user namespace (Linux, user_namespaces(7)) in which the present user goes by the id of `nobody`. Seen from
   outside nothing changes: files belong to the user who started us.
2. Really becoming `nobody`, where root may not make namespaces (as in most containers). Of root's powers only
   CAP_DAC_OVERRIDE is kept (capabilities(7)), so that the data may lie below folders closed to `nobody`.

It is a program of its own because both must happen between fork and exec, where Python code is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def main(data: Path, command: list[str]) -> None:
    """Become `command` as a user PostgreSQL accepts; never returns."""
    user = _nobody()
    # Data that already belongs to `nobody` stays with it: within a namespace it would be a stranger's.
    mine = not data.exists() or data.stat().st_uid == os.geteuid()
    if mine and _namespaces_are_permitted(user):
        _enter_namespace(user)
    elif os.geteuid() == 0:
        _become(user, data)
    os.execv(command[0], command)  # noqa: S606 - becoming the given program is the purpose


def _nobody() -> pwd.struct_passwd:
    others = [account for account in pwd.getpwall() if account.pw_uid != 0]
    if not others:
        sys.exit("PostgreSQL refuses to run as root, and /etc/passwd has no other user. Set DATABASE_URL instead.")
    return min(others, key=lambda account: account.pw_name != "nobody")


def _namespaces_are_permitted(user: pwd.struct_passwd) -> bool:
    # Tried in a process of its own: a namespace that can be entered but not furnished cannot be left again.
    trial = os.fork()
    if trial == 0:
        try:
            _enter_namespace(user)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(trial, 0)[1]) == 0


def _enter_namespace(user: pwd.struct_passwd) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user.pw_uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{user.pw_gid} {gid} 1")


def _become(user: pwd.struct_passwd, data: Path) -> None:
    try:
        if data.exists() and data.stat().st_uid == 0:
            for path in (data, *data.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        only = 1 << _CAP_DAC_OVERRIDE
        header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
        sets = (_CapabilitySet * 2)(_CapabilitySet(only, only, only))
        _check(_libc.capset(ctypes.byref(header), sets))
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))
    except OSError as error:
        sys.exit(
            "PostgreSQL refuses to run as root, and this machine permits neither a user namespace nor changing to "
            f"{user.pw_name} ({error}). Run as an ordinary user, or set DATABASE_URL."
        )


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("PostgreSQL refuses to run as root. Run as an ordinary user, or set DATABASE_URL.")
    main(Path(sys.argv[1]), sys.argv[2:])
