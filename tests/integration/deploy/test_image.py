from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEFT_OUT = re.findall(r"/wheels/([\w-]+)-\*", (ROOT / "deploy" / "Dockerfile").read_text())
RUN_WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(sys.argv[1:]));"
    "runpy.run_module('tests.integration.deploy.one_turn', run_name='__main__')"
)


def run_a_turn_without(*modules: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN_WITHOUT, *modules]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_text_turn_needs_nothing_that_the_image_leaves_out() -> None:
    result = run_a_turn_without(*LEFT_OUT)
    assert result.stdout == "Hello Ada.\n\nYou said: Hello\n", result.stderr


def test_a_package_that_is_needed_would_be_missed() -> None:
    assert "import of numpy halted" in run_a_turn_without("numpy").stderr
