"""The README says what the program does: its settings and its commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from worker.cli.app import turn_worker
from worker.settings import Settings, variable_name

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def commands() -> Iterator[tuple[str, list[str]]]:
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if "turn-worker " in line and "docker" not in line and "/etc/" not in line and "cp " not in line:
                    words = shlex.split(line.split("turn-worker ", 1)[1], comments=True)
                    yield f"{document.name}: {line.strip()}", [word for word in words if word != "&"]


@pytest.mark.parametrize("words", [pytest.param(words, id=line) for line, words in commands()])
def test_every_command_in_the_documents_exists_with_its_options(words: list[str]) -> None:
    command: click.Command = turn_worker
    context = click.Context(turn_worker)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


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
