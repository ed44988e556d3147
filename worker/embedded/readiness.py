"""How a program tells whoever started it that it is ready: the notification protocol of systemd (sd_notify(3)).

The same one line serves `Type=notify` units and the embedded stack.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ADDRESS_VARIABLE: Final = "NOTIFY_SOCKET"
_READY: Final = b"READY=1"


def announce_ready() -> None:
    """Tell whoever started this process, if they asked to be told, that it does its work from now on."""
    address = os.environ.get(ADDRESS_VARIABLE)
    if not address:
        return
    # Nobody has to be listening (any more). A leading @ stands for Linux's abstract namespace.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
        sender.sendto(_READY, address.replace("@", "\0", 1) if address.startswith("@") else address)


class ReadinessSocket:
    """Where a child process announces that it is ready; pass it `address` as NOTIFY_SOCKET."""

    def __init__(self) -> None:
        # In a folder of its own with a short name: the path of a Unix socket may have some 100 bytes only (unix(7)).
        self._folder = TemporaryDirectory(prefix="turn-worker-")
        self.address = str(Path(self._folder.name) / "ready")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def was_announced(self) -> bool:
        """Whether an announcement came since the last time this was asked."""
        try:
            return _READY in self._socket.recv(4096, socket.MSG_DONTWAIT).splitlines()
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Remove the socket."""
        self._socket.close()
        self._folder.cleanup()
