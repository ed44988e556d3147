from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.deploy.project import DEPLOY, PYPROJECT, ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROVIDERS = [extra for name, extra in PYPROJECT["project"]["optional-dependencies"].items() if name != "embedded"]
LOCKS = sorted(DEPLOY.glob("*.lock"))


def entries(lock: Path) -> list[list[str]]:
    """Each requirement with its hashes."""
    text = lock.read_text().replace("\\\n", " ")
    return [re.split(r"\s+--hash=", entry) for entry in text.splitlines() if entry and not entry.startswith("#")]


def locked(lock: str) -> dict[str, set[str]]:
    """The versions of each package; there are several where they depend on the Python that runs."""
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries(DEPLOY / lock):
        requirement = Requirement(entry[0].strip())
        versions[canonicalize_name(requirement.name)].add(str(requirement.specifier).removeprefix("=="))
    return versions


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_every_package_by_version_and_hash_and_names_no_host(lock: Path) -> None:
    assert "://" not in lock.read_text()
    for requirement, *hashes in entries(lock):
        [specifier] = Requirement(requirement.strip()).specifier
        assert specifier.operator == "=="
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", one) for one in hashes), requirement


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PYPROJECT["project"]["dependencies"]),
        ("requirements-providers.lock", PYPROJECT["project"]["dependencies"]),
        *(("requirements-providers.lock", extra) for extra in PROVIDERS),
        ("requirements-build.lock", PYPROJECT["build-system"]["requires"]),
        ("requirements-build.lock", PYPROJECT["dependency-groups"]["build"]),
        ("requirements-dev.lock", [one for one in PYPROJECT["dependency-groups"]["dev"] if isinstance(one, str)]),
    ],
)
def test_a_lock_has_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    pinned = locked(lock)
    for requirement in map(Requirement, wanted):
        versions = pinned[canonicalize_name(requirement.name)]
        assert versions, requirement
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-providers.lock"])
def test_the_tests_run_with_the_versions_that_are_deployed(lock: str) -> None:
    deployed, tested = locked(lock), locked("requirements-dev.lock")
    assert {package: tested[package] for package in deployed} == deployed


@pytest.mark.parametrize("path", ["Makefile", "deploy/Dockerfile", "deploy/README.md"])
def test_whatever_installs_a_lock_leaves_nothing_to_be_resolved(path: str) -> None:
    """With an extra of a pinned package, pip's resolver tries the newest release first, whose hash no lock can have."""
    installs = [line for line in (ROOT / path).read_text("utf-8").splitlines() if "--require-hashes" in line]
    assert installs
    for line in installs:
        assert "--no-deps" in line, line
