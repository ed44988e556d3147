"""Where the files under test are, and what they have to agree with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from worker.settings import Settings, variable_name

ROOT: Final = Path(__file__).parents[3]
DEPLOY: Final = ROOT / "deploy"
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETTINGS: Final = frozenset(variable_name(field) for field in Settings.model_fields)
GRACE_SECONDS: Final[float] = Settings.model_fields["shutdown_grace_seconds"].default


def environment_file(path: Path) -> dict[str, str]:
    """What a file of assignments assigns, read as strictly as the strictest of its readers."""
    assignments = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            assignment = re.fullmatch(r"([A-Z_]+)=(\S*)", line)
            assert assignment, f"{path.name}: {line!r} is no assignment"
            assignments[assignment[1]] = assignment[2]
    return assignments
