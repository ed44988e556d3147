from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

CLINIC = (resources.files("worker.embedded") / "examples" / "clinic.json").read_text()
START = {"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Be brief."}}


def test_a_valid_graph_passes(turn_worker_command: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "clinic.json").write_text(CLINIC)
    result = turn_worker_command("validate", str(tmp_path / "clinic.json"))
    assert (result.exit_code, result.stdout) == (0, "The workflow is valid: 8 nodes, 11 edges.\n")


def test_what_only_the_database_can_tell_is_said_to_be_checked_later(
    turn_worker_command: Callable[..., Result],
) -> None:
    start = START | {"data": START["data"] | {"tool_uuids": ["a", "b", "a"]}}  # type: ignore[operator] # it is a dict
    result = turn_worker_command("validate", "-", stdin=json.dumps({"nodes": [start], "edges": []}))
    assert result.exit_code == 0
    assert "It mentions 2 tools. Whether they exist" in result.stdout


def test_a_full_definition_on_standard_input_passes(turn_worker_command: Callable[..., Result]) -> None:
    definition = {"graph": {"nodes": [START], "edges": []}, "workflow_configurations": {}}
    result = turn_worker_command("validate", "-", stdin=json.dumps(definition))
    assert result.exit_code == 0


def test_every_problem_is_named_with_its_place(turn_worker_command: Callable[..., Result]) -> None:
    silent = {"id": "silent", "type": "agentNode", "data": {"name": "Silent", "prompt": ""}}
    edge = {"id": "astray", "source": "start", "target": "nowhere", "data": {"label": "Go", "condition": "Always."}}
    graph = {"nodes": [START, silent], "edges": [edge]}
    result = turn_worker_command("validate", "-", stdin=json.dumps(graph))
    assert result.exit_code == 1
    assert "node 'silent', data.prompt: " in result.stderr
    assert "edge 'astray', target: " in result.stderr
    assert result.stderr.count("\n- ") >= 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{\n  "nodes": [,]\n}', "is not JSON: line 2, column 13: Expecting value."),
        (b"", "is not JSON: line 1, column 1: Expecting value."),
        (b'{"name": "\xff"}', "is not UTF-8 text: byte 10 does not belong there."),
        (b"[" * 100_000, "cannot be read: it is nested too deeply."),
    ],
)
def test_a_file_that_is_no_json_is_refused_with_the_place(
    turn_worker_command: Callable[..., Result], tmp_path: Path, content: bytes, complaint: str
) -> None:
    file = tmp_path / "broken.json"
    file.write_bytes(content)
    result = turn_worker_command("validate", str(file))
    assert result.exit_code == 1
    # Not at its beginning: where no depth is left, Python may have complained of that before.
    assert result.stderr.endswith(f"Error: {file} {complaint}\n")


def test_what_windows_puts_before_a_text_is_no_fault(turn_worker_command: Callable[..., Result]) -> None:
    assert turn_worker_command("validate", "-", stdin=b"\xef\xbb\xbf" + CLINIC.encode()).exit_code == 0


def test_json_that_is_no_workflow_is_refused(turn_worker_command: Callable[..., Result]) -> None:
    result = turn_worker_command("validate", "-", stdin="[1]")
    assert result.exit_code == 1
    assert 'A workflow is a JSON object with a "graph"' in result.stderr


def test_a_folder_is_refused(turn_worker_command: Callable[..., Result], tmp_path: Path) -> None:
    result = turn_worker_command("validate", str(tmp_path))
    assert result.exit_code == 1
    assert "cannot be read: Is a directory." in result.stderr
