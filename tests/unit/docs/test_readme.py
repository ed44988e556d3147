"""The README says what the program does: its settings, its targets, its examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from worker.settings import Settings, variable_name

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("deploy/**/*.md"))]


def settings_table() -> str:
    """The table of all settings, from their one definition."""
    rows = ["| Variable | Default | What it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{variable_name(name)}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(rows)


def _shown(default: Any) -> str:
    if default is None:
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_readme_lists_every_setting_as_it_is() -> None:
    found = re.search(r"<!-- settings -->\n(.*?)<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    expected = settings_table()
    assert found.group(1).strip() == expected, f"The README's table of settings should be:\n{expected}"


@pytest.mark.parametrize(
    "target",
    sorted({target for text in map(Path.read_text, DOCUMENTS) for target in re.findall(r"\bmake ([a-z-]+)", text)}),
)
def test_every_make_target_in_the_documents_exists(target: str) -> None:
    prose = {"it", "sure"}
    assert target in prose or re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_json_example_of_the_readme_is_json() -> None:
    for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL):
        json.loads(block)
