from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from worker.cli.options import assignments, checked_script
from worker.embedded.scripted_llm.errors import InvalidScript

if TYPE_CHECKING:
    from pathlib import Path


def test_an_assigned_value_is_json_or_else_text() -> None:
    given = ["name=Ada Marlow", "age=36", 'code="007"', 'tags=["a"]', "url=https://x.test/?a=b", "empty="]
    assert assignments(given, "--context") == {
        "name": "Ada Marlow",
        "age": 36,
        "code": "007",
        "tags": ["a"],
        "url": "https://x.test/?a=b",
        "empty": "",
    }


@pytest.mark.parametrize("wrong", ["name", "=Ada"])
def test_what_assigns_nothing_is_a_wrong_use(wrong: str) -> None:
    with pytest.raises(click.BadParameter, match="is not of the form NAME=VALUE"):
        assignments([wrong], "--context")


def test_a_script_means_the_scripted_llm(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"rules": []}')
    assert checked_script(None, script) == "scripted"
    assert checked_script("local", None) == "local"
    with pytest.raises(click.UsageError, match="not for --llm anthropic"):
        checked_script("anthropic", script)


def test_a_script_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidScript, match="cannot be read"):
        checked_script(None, tmp_path / "missing.json")
