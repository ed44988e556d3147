"""A TCP port that is ours before, between and after the runs of the program that listens on it."""

from __future__ import annotations

import socket
import sys
from typing import Self

from worker.embedded.errors import EmbeddedServerError


class ReservedPort:
    """Keeps a port from being given to anyone else while nobody listens on it yet, or again after a restart.

    On Linux, sockets that all set SO_REUSEADDR, as servers do, may be bound to one port as long as only one of them
    listens. Elsewhere the port is only found to be free, and let go of.
    """

    def __init__(self, host: str, port: int, *, what: str) -> None:
        """Take the port.

        Args:
            host: the address to listen on.
            port: the TCP port; 0 takes a free one.
            what: for whom, for the message.

        Raises:
            EmbeddedServerError: something listens there already, or there is no such address.
        """
        self._socket: socket.socket | None = None
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
        except OSError as error:
            self.close()
            raise EmbeddedServerError(
                f"{what} cannot listen on {host}:{port}: {error.strerror}. Choose another port; 0 takes a free one."
            ) from error
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self.close()

    def close(self) -> None:
        """Let go of it. Harmless if that was done before."""
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
