"""Watching processes that are not our children."""

from __future__ import annotations

import os
import select

import psutil


def has_ended(pid: int, timeout: float = 10.0) -> bool:
    """Whether the process ends within `timeout` seconds; one that only waits to be reaped has ended."""
    if not hasattr(os, "pidfd_open"):
        return not psutil.wait_procs([psutil.Process(pid)], timeout=timeout)[1]
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], timeout)[0])
    finally:
        os.close(watch)
