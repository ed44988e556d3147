"""A conversation on the terminal."""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import click

from worker.channel.event_types import STATUS_REPORTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api_stub.client import Turn
    from worker.cli.conversation import Reply

_MARGIN: Final = 8
_WIDEST: Final = 110
_TICK_SECONDS: Final = 0.5


def echo_user(text: str) -> None:
    """Print what the user says."""
    click.echo()
    _echo_speech("You", text, "cyan")


def echo_reply(reply: Reply) -> None:
    """Print the way the agent took through its graph, what it said or why it failed, and what was heard when."""
    if reply.steps:
        _echo_note(" ".join(f"-> {step}" for step in reply.steps))
    if reply.turn.status == "completed":
        _echo_speech("Agent", reply.turn.assistant_text or "(says nothing)", "green")
    else:
        _echo_speech("Error", failure(reply.turn), "red")
    news = [(name.removeprefix("turn."), seconds) for name, seconds in reply.heard if name in STATUS_REPORTED]
    _echo_note(", ".join(f"{name} after {seconds * 1000:.0f} ms" for name, seconds in news))


def echo_retry(turn: Turn) -> None:
    """Print that an attempt failed and that there will be another."""
    reason = f": {turn.error.message}" if turn.error is not None else "."
    click.echo(f"{' ' * _MARGIN}Attempt {turn.attempt} failed and is repeated{reason}", err=True)


def failure(turn: Turn) -> str:
    """Say why a turn was not completed."""
    reason = f" ({turn.error.code}): {turn.error.message}" if turn.error is not None else "."
    return f"Turn {turn.position} {'was cancelled' if turn.status == 'cancelled' else 'failed'}{reason}"


@asynccontextmanager
async def waiting(what: str) -> AsyncIterator[None]:
    """While the block runs, show on a terminal for how long it has been waiting."""
    ticking = asyncio.create_task(_tick(what)) if sys.stderr.isatty() else None
    try:
        yield
    finally:
        if ticking is not None:
            ticking.cancel()
            await asyncio.wait([ticking])


async def _tick(what: str) -> None:
    began = time.monotonic()
    line = ""
    try:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            line = f"{' ' * _MARGIN}{what} ({time.monotonic() - began:.0f} s)"
            click.echo(f"\r{line}", nl=False, err=True)
    finally:
        click.echo(f"\r{' ' * len(line)}\r", nl=False, err=True)


def _echo_speech(speaker: str, text: str, colour: str) -> None:
    label = click.style(f"{speaker:<{_MARGIN}}", fg=colour, bold=True)
    lines = [line for paragraph in text.splitlines() for line in _wrapped(paragraph)]
    click.echo(label + "\n".join(lines[:1] + [(" " * _MARGIN + line).rstrip() for line in lines[1:]]))


def _echo_note(text: str) -> None:
    for line in _wrapped(text):
        click.echo(click.style(" " * _MARGIN + line, dim=True))


def _wrapped(text: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    return textwrap.wrap(text, max(width - _MARGIN, 20)) or [""]
