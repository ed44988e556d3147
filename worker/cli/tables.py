"""Lists on the terminal, in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def echo_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their heading, each column as wide as it has to be."""
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]
    for number, row in enumerate([heading, *rows]):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def moment(when: datetime) -> str:
    """A time, to the second, as one writes it down."""
    return when.isoformat(sep=" ", timespec="seconds")
