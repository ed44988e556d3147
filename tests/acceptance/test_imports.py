"""What a program takes on by importing one of the packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_TELL = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(list(sys.modules)))"


def loaded_by(module: str) -> set[str]:
    """The top-level names of every module that importing this one loads in a fresh process."""
    done = subprocess.run([sys.executable, "-c", _TELL, module], check=True, capture_output=True, text=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_the_client_library_loads_nothing_of_the_server() -> None:
    unwanted = {"celery", "kombu", "pipecat", "sqlalchemy", "psycopg", "fastapi", "redis", "worker"}
    assert loaded_by("api_stub.client") & unwanted == set()


@pytest.mark.parametrize("module", ["api_stub.app", "api_stub.server"])
def test_the_api_loads_no_part_of_the_engine(module: str) -> None:
    assert loaded_by(module) & {"pipecat", "anthropic", "openai", "onnxruntime", "numpy"} == set()
