"""What the files around the program mention of it exists: commands, options, settings, files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.deploy.commands import Mention, mentions, refusal
from tests.unit.deploy.project import DEPLOY, ROOT, SETTINGS, environment_file
from worker.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

FILES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "Makefile",
    *sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".env"),
]
MENTIONS = {f"{path.relative_to(ROOT)}: {mention}": mention for path in FILES for mention in mentions(path)}
ENVIRONMENT_FILES = [
    DEPLOY / ".env.example",
    DEPLOY / "kubernetes" / "secrets.env.example",
    DEPLOY / "systemd" / "turn-worker.env.example",
]
NOT_OURS = {"POSTGRES_PASSWORD", "REQUIREMENTS"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_commands_are_found_where_they_are_mentioned() -> None:
    assert {place.split(":", 1)[0] for place in MENTIONS} >= {
        "README.md",
        "Makefile",
        "deploy/README.md",
        "deploy/.env.example",
        "deploy/systemd/turn-worker-api.service",
        "deploy/systemd/turn-worker-migrate.service",
        "deploy/systemd/turn-worker@.service",
    }


@pytest.mark.parametrize("mention", [pytest.param(mention, id=place) for place, mention in MENTIONS.items()])
def test_every_command_mentioned_is_one_that_the_program_takes(mention: Mention) -> None:
    assert refusal(mention.arguments, complete=mention.complete) is None


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [
        (["nonsense"], False),
        (["org", "nonsense"], False),
        (["api", "--nonsense"], False),
        (["api", "nonsense"], False),
        (["api", "--port", "nonsense"], False),
        (["org", "create"], True),
        (["keys"], True),
    ],
)
def test_a_command_that_the_program_would_refuse_is_recognised(arguments: list[str], *, complete: bool) -> None:
    assert refusal(arguments, complete=complete)


def test_a_command_in_running_text_may_leave_arguments_out() -> None:
    assert refusal(["org", "create"], complete=False) is None


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_setting_mentioned_exists(path: Path) -> None:
    mentioned = re.findall(
        r"\b(?:TURN_WORKER|ANTHROPIC|OPENAI)_[A-Z0-9_]+|\b(?:DATABASE|REDIS)_URL\b", path.read_text()
    )
    assert set(mentioned) <= SETTINGS


@pytest.mark.parametrize("path", ENVIRONMENT_FILES, ids=name)
def test_every_variable_of_an_example_is_a_setting_or_its_servers_own(path: Path) -> None:
    assert environment_file(path).keys() <= SETTINGS | NOT_OURS


@pytest.mark.parametrize("path", ENVIRONMENT_FILES, ids=name)
def test_an_example_is_accepted_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environment_file(path).items():
        monkeypatch.setenv(variable, value)
    load_settings()


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".md"], ids=name)
def test_every_file_named_in_a_document_exists(path: Path) -> None:
    named = re.findall(r"(?<![\w/.-])((?:deploy|worker|api_stub|tests)/[\w./-]*\w)", path.read_text())
    missing = {file for file in named if not (ROOT / file).exists()}
    # Made by the reader from the examples beside them.
    assert missing <= {"deploy/.env", "deploy/kubernetes/secrets.env"}


def test_the_table_of_files_lists_every_file() -> None:
    table = "\n".join(line for line in (DEPLOY / "README.md").read_text().splitlines() if line.startswith("| `"))
    listed = {entry.rstrip("/") for entry in re.findall(r"`([^`]+)`", re.sub(r"(?m)\|[^|]*\|$", "|", table))}
    assert listed == {path.name for path in DEPLOY.iterdir()} - {"README.md", ".env"}
