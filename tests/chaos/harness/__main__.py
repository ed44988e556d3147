"""`make chaos MINUTES=30`: attack the real system for a while, and judge what it made of it."""

from __future__ import annotations

import asyncio
import secrets
import sys

import click

from tests.chaos.harness.run import raise_file_limit, run


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=3.0, show_default=True)
@click.option("--seed", type=int, help="Repeats the faults of an earlier run.")
@click.option("--sessions", type=click.IntRange(min=1), default=24, show_default=True, help="Conversations at once.")
@click.option("--pause-seconds", type=click.FloatRange(min=0), default=1.0, show_default=True)
def main(minutes: float, seed: int | None, sessions: int, pause_seconds: float) -> None:
    """Attack a system of two workers, API, PostgreSQL, Redis and a scripted LLM. Exits with 1 if a promise was broken."""
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    print(f"Seed {chosen}. {minutes:g} minutes ...", flush=True)  # noqa: T201 -- a command talks
    raise_file_limit()
    report = asyncio.run(run(seconds=minutes * 60, seed=chosen, sessions=sessions, pause_seconds=pause_seconds))
    print(report)  # noqa: T201 -- a command talks
    sys.exit(1 if report.violations else 0)


main()
