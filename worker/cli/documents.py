"""JSON documents that a user hands to a command, as a file or on standard input."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from worker.errors import TurnWorkerError
from worker.workflow.tool_definition import InvalidTool, parse_tool

STANDARD_INPUT: Final = "-"


class UnreadableDocument(TurnWorkerError):
    """A file cannot be read, or is not JSON."""

    code = "unreadable_document"


@dataclass(frozen=True, slots=True)
class StoredTool:
    """A tool and the id that workflows refer to it by."""

    id: UUID
    definition: dict[str, Any]


def read_tools(source: str) -> list[StoredTool]:
    """The tools in a file, or on standard input for `-`: a list of `{"id": ..., "definition": ...}`.

    Raises:
        UnreadableDocument: it cannot be read or is no such list; the message names what is wrong with each.
    """
    written = read_json(source)
    if not isinstance(written, list):
        raise UnreadableDocument(f'{source} is not a JSON list of {{"id": ..., "definition": ...}}.')
    tools, problems = [], []
    for place, item in enumerate(written):
        try:
            tool = StoredTool(UUID(item["id"]), item["definition"])
            parse_tool(tool.definition)
            tools.append(tool)
        except (LookupError, TypeError, ValueError, AttributeError):
            problems.append(f'{place}: It is not {{"id": UUID, "definition": ...}}.')
        except InvalidTool as error:
            problems += [
                f"{'.'.join(map(str, (place, 'definition', *problem.path)))}: {problem.message}"
                for problem in error.problems
            ]
    if problems:
        raise UnreadableDocument("\n- ".join([f"The tools in {source} cannot be used:", *problems]))
    return tools


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
