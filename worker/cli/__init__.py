"""The command line: `turn-worker` and its commands, one module each. Nothing is loaded before a command needs it."""

from __future__ import annotations

from worker.cli.app import main

__all__ = ["main"]
