from __future__ import annotations

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from api_stub.routes.health import router
from tests.unit.deploy.commands import refusal
from tests.unit.deploy.project import DEPLOY, PYPROJECT, ROOT, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCKERFILE = DEPLOY / "Dockerfile"
SOURCE = re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
INSTRUCTIONS = [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in SOURCE.splitlines() if line.strip()]
FINAL = INSTRUCTIONS[max(index for index, (keyword, _) in enumerate(INSTRUCTIONS) if keyword == "FROM") :]
LEFT_OUT = re.findall(r"/wheels/([\w-]+)-\*", SOURCE)


def every(keyword: str, instructions: list[tuple[str, str]] = INSTRUCTIONS) -> list[str]:
    return [rest for found, rest in instructions if found == keyword]


def copied() -> list[str]:
    return [source for rest in every("COPY") if "--from" not in rest for source in rest.split()[:-1]]


def in_build_context(file: str) -> bool:
    """Whether `.dockerignore` lets the file through: the last rule that matches it or a folder above it decides."""
    path = PurePosixPath(file)
    admitted = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").rstrip("/")
            if any(_matches(part, pattern) for part in (path, *path.parents[:-1])):
                admitted = line.startswith("!")
    return admitted


def _matches(path: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(path.name, pattern.removeprefix("**/"))
    return len(path.parts) == len(PurePosixPath(pattern).parts) and path.match(pattern)


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_every_base_image_is_pinned_by_a_tag() -> None:
    stages: set[str] = set()
    for rest in every("FROM"):
        image, *alias = rest.split(" AS ")
        assert image in stages or re.fullmatch(r"[a-z/]+:[\w.-]*\d[\w.-]*", image), image
        stages.update(alias)
    assert set(re.findall(r"--from=(\S+)", SOURCE)) <= stages


def test_all_stages_run_the_same_supported_python() -> None:
    [image] = {rest.split()[0] for rest in every("FROM")}
    version = image.removeprefix("python:").split("-")[0]
    assert f"Programming Language :: Python :: {version}" in PYPROJECT["project"]["classifiers"]


@pytest.mark.parametrize("source", copied())
def test_everything_copied_exists_and_reaches_the_build(source: str) -> None:
    assert (ROOT / source).exists()
    assert in_build_context(source)


def test_every_package_of_the_project_is_copied() -> None:
    project, wheel = PYPROJECT["project"], PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], project["readme"], *project["license-files"], "pyproject.toml"} <= set(copied())


@pytest.mark.parametrize(
    "file",
    [".env", ".git/config", "deploy/.env", "worker/__pycache__/cli.pyc", "tests/conftest.py", ".turn-worker/key"],
)
def test_secrets_and_local_files_do_not_reach_the_build(file: str) -> None:
    assert not in_build_context(file)


def test_nothing_is_installed_that_is_not_pinned_by_hash() -> None:
    for command in re.findall(r"\bpip\b[^&]*?\b(?:install|wheel)\b[^&\n]*", SOURCE):
        pinned = "--require-hashes" in command
        local = "--no-deps" in command and ("--no-index" in command or command.rstrip().endswith(" ."))
        assert pinned or local, command
        # An isolated build would fetch its tools by itself, unpinned.
        assert "wheel" not in command.split() or "--no-build-isolation" in command, command


def test_it_does_not_run_as_root() -> None:
    [user] = every("USER", FINAL)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert user.split(":")[0] in every("RUN", FINAL)[0]


def test_it_runs_the_projects_command() -> None:
    [entry_point] = every("ENTRYPOINT", FINAL)
    [arguments] = every("CMD", FINAL)
    assert set(json.loads(entry_point)) == PYPROJECT["project"]["scripts"].keys()
    assert refusal(json.loads(arguments)) is None


def test_it_sets_settings_that_exist() -> None:
    names = re.findall(r"(\w+)=\S", every("ENV", FINAL)[0])
    assert set(names) <= SETTINGS | {"PATH"}


class _Health(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check_health(port: int) -> bool:
    [instruction] = every("HEALTHCHECK", FINAL)
    program, *arguments = json.loads(instruction.split(" CMD ")[1])
    assert program == "python"
    environment = {**os.environ, "TURN_WORKER_PORT": str(port)}
    return (
        subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False).returncode == 0
    )


def test_the_health_check_asks_the_api_where_it_listens(
    api: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/healthz" in {getattr(route, "path", None) for route in router.routes}
    assert check_health(api.server_port)
    monkeypatch.setattr(_Health, "status", 503)
    assert not check_health(api.server_port)


def test_the_health_check_fails_when_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not check_health(taken.getsockname()[1])


def test_what_the_image_leaves_out_is_in_the_lock() -> None:
    locked = (DEPLOY / "requirements.lock").read_text()
    assert LEFT_OUT
    assert all(re.search(rf"^{package}==", locked, re.MULTILINE) for package in LEFT_OUT)
