"""What can go wrong with an embedded server, each with what to do about it."""

from __future__ import annotations

from worker.errors import TurnWorkerError


class EmbeddedServerError(TurnWorkerError):
    """An embedded server could not be started."""

    code = "embedded_server"


class ServerNotInstalled(EmbeddedServerError):
    """No Python package and nothing on the PATH provides the server's programs."""

    code = "embedded_server_not_installed"


class DataFolderInUse(EmbeddedServerError):
    """Another process, or a server left over from one, works on the same data folder."""

    code = "embedded_data_folder_in_use"
    retryable = True


class ServerStartFailed(EmbeddedServerError):
    """The server's program ended or stayed silent instead of accepting connections; the message quotes its log."""

    code = "embedded_server_start_failed"
