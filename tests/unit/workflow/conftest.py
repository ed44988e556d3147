"""Building blocks of small workflows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

JSON = dict[str, Any]


@pytest.fixture
def workflow() -> JSON:
    """A small valid graph with each type of node, as fresh JSON to break in one place."""
    return {
        "nodes": [
            {
                "id": "start",
                "type": "startCall",
                "position": {"x": 0, "y": 0},
                "data": {"name": "S", "prompt": "Begin."},
            },
            {"id": "agent", "type": "agentNode", "data": {"name": "A", "prompt": "Ask."}},
            {"id": "end", "type": "endCall", "data": {"name": "E", "prompt": "Close."}},
            {"id": "global", "type": "globalNode", "data": {"name": "G", "prompt": "Be kind."}},
            {"id": "trigger", "type": "trigger", "data": {"name": "T", "trigger_path": "x"}},
            {"id": "webhook", "type": "webhook", "data": {"name": "W", "endpoint_url": "https://example.com"}},
            {"id": "qa", "type": "qa", "data": {"name": "Q"}},
        ],
        "edges": [
            {"id": "e1", "source": "start", "target": "agent", "data": {"label": "go on", "condition": "always"}},
            {"id": "e2", "source": "agent", "target": "end", "data": {"label": "done", "condition": "all said"}},
            {"id": "e3", "source": "agent", "target": "agent", "data": {"label": "again", "condition": "more"}},
        ],
    }


@pytest.fixture
def exported_workflow() -> JSON:
    """A real export of a visual editor; see data/README.md."""
    path = Path(__file__).parent / "data" / "exported_workflow.json"
    exported: JSON = json.loads(path.read_text())
    return exported
