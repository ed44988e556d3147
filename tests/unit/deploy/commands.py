"""Where files of the project mention the command `turn-worker`, and whether the program would take it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest.mock import patch

import click

from worker.cli.app import turn_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Mention:
    """A command as a file has it.

    Attributes:
        arguments: What follows `turn-worker`.
        complete: Whether it is there to be run; in running text arguments may be left out.
    """

    arguments: tuple[str, ...]
    complete: bool

    def __str__(self) -> str:
        return shlex.join(["turn-worker", *self.arguments])


def mentions(path: Path) -> Iterator[Mention]:
    """All commands in a file: Markdown's shell blocks and code spans, or else the lines and the comments' code spans."""
    text = path.read_text().replace("\\\n", " ")
    if path.suffix == ".md":
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    else:
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        prose = "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    for line in lines:
        if "turn-worker " in line:
            yield from _of_shell(line, complete=True)
    for span in re.findall(r"`([^`\n]+)`", prose):
        yield from _of_shell(span, complete=False)


def refusal(arguments: Sequence[str], *, complete: bool = True) -> str | None:
    """Why the program refuses these arguments; None if it takes them. Nothing is run."""
    with patch.object(click.Command, "invoke", lambda _command, _context: None):
        try:
            turn_worker.main(list(arguments), prog_name="turn-worker", standalone_mode=False)
        except (click.MissingParameter, click.exceptions.NoArgsIsHelpError) as error:
            return error.format_message() if complete else None
        except click.UsageError as error:
            return error.format_message()
    return None


def _of_shell(line: str, *, complete: bool) -> Iterator[Mention]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    words = list(lexer)
    for index, word in enumerate(words):
        if word.rsplit("/", 1)[-1] == "turn-worker":
            rest = words[index + 1 :]
            end = next((i for i, other in enumerate(rest) if set(other) <= set("();<>|&")), len(rest))
            # Elsewhere the word is a name: of an image, an account or a folder.
            if end and re.match(r"[a-z-]", rest[0]):
                yield Mention(tuple(rest[:end]), complete)
