"""JSON documents that a user hands to a command, as a file or on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from worker.errors import TurnWorkerError

STANDARD_INPUT: Final = "-"


class UnreadableDocument(TurnWorkerError):
    """A file cannot be read, or is not JSON."""

    code = "unreadable_document"


def read_json(source: str) -> Any:
    """The JSON document in a file, or on standard input for `-`.

    Raises:
        UnreadableDocument: it cannot be read, or is not JSON; the message has the line and the column.
    """
    name = "standard input" if source == STANDARD_INPUT else source
    try:
        raw = sys.stdin.buffer.read() if source == STANDARD_INPUT else Path(source).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableDocument(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"{name} is not UTF-8 text: byte {error.start} does not belong there.") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableDocument(
            f"{name} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except RecursionError as error:
        raise UnreadableDocument(f"{name} cannot be read: it is nested too deeply.") from error
