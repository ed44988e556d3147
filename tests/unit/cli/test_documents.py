"""Tools that a user hands to a command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.cli.documents import StoredTool, UnreadableDocument, read_tools

if TYPE_CHECKING:
    from pathlib import Path


def test_tools_are_read_with_the_ids_that_workflows_know_them_by(tmp_path: Path) -> None:
    id_ = uuid4()
    definition = {"type": "calculator"}
    (tmp_path / "tools.json").write_text(json.dumps([{"id": str(id_), "definition": definition}]))
    assert read_tools(str(tmp_path / "tools.json")) == [StoredTool(id_, definition)]


def test_everything_that_is_wrong_with_them_is_told_at_once(tmp_path: Path) -> None:
    definitions = [{"type": "fax"}, {"type": "current_time", "zone": "Mars", "name": "a b"}]
    written = [{"id": str(uuid4()), "definition": definition} for definition in definitions]
    (tmp_path / "tools.json").write_text(json.dumps([*written, {"id": "7"}, 5]))
    with pytest.raises(UnreadableDocument) as refused:
        read_tools(str(tmp_path / "tools.json"))
    told = str(refused.value)
    for place in ("0.definition:", "1.definition.zone:", "1.definition.name:", "2:", "3:"):
        assert f"\n- {place}" in told


def test_what_is_no_list_of_tools_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text("{}")
    with pytest.raises(UnreadableDocument, match="is not a JSON list"):
        read_tools(str(tmp_path / "tools.json"))
