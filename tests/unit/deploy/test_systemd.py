from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.unit.deploy.commands import refusal
from tests.unit.deploy.project import DEPLOY, GRACE_SECONDS, environment_file

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = DEPLOY / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
LASTING = [unit for unit in UNITS if "migrate" not in unit.name]
PROGRAM = "/opt/turn-worker/bin/turn-worker"
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")

with_systemd = pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="this machine has no systemd-analyze")
every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
every_lasting_unit = pytest.mark.parametrize("unit", LASTING, ids=lambda unit: unit.name)

Sections = dict[str, dict[str, list[str]]]


def parsed(unit: Path) -> Sections:
    """The unit's directives by section; one that stands several times has several values."""
    sections: Sections = {}
    for line in unit.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(header[1], defaultdict(list))
        elif line and not line.startswith("#"):
            directive, value = line.split("=", 1)
            section[directive].append(value)
    return sections


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def test_there_is_a_unit_for_every_role() -> None:
    commands = {parsed(unit)["Service"]["ExecStart"][0] for unit in UNITS}
    assert commands == {f"{PROGRAM} {role}" for role in ("api", "worker", "migrate")}


@with_systemd
@every_unit
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(PROGRAM, sys.executable))
    for other in UNITS:
        if other != unit:
            (tmp_path / other.name).write_text(other.read_text().replace(PROGRAM, sys.executable))
    complaints = [line for line in analyze("verify", copy).stderr.splitlines() if "turn-worker" in line]
    assert complaints == []


@with_systemd
@every_unit
def test_systemd_judges_it_well_confined(unit: Path) -> None:
    result = analyze("security", "--offline=true", "--threshold=20", unit)
    if "unrecognized option" in result.stderr:
        pytest.skip("this systemd judges running units only")
    assert result.returncode == 0, result.stdout.splitlines()[-1]


@every_unit
def test_it_has_the_sections_and_the_command_it_needs(unit: Path) -> None:
    sections = parsed(unit)
    lasting = unit in LASTING
    assert sections.keys() == {"Unit", "Service"} | ({"Install"} if lasting else set())
    assert sections["Service"]["Type"] == ["exec" if lasting else "oneshot"]
    program, *arguments = sections["Service"]["ExecStart"][0].split()
    assert program == PROGRAM
    assert refusal(arguments) is None


@every_unit
def test_it_reads_the_settings_that_the_example_is_copied_to(unit: Path) -> None:
    [file] = parsed(unit)["Service"]["EnvironmentFile"]
    assert f"install -D --mode 600 deploy/systemd/turn-worker.env.example {file} " in (DEPLOY / "README.md").read_text()
    assert file in (FOLDER / "turn-worker.env.example").read_text()


@every_lasting_unit
def test_a_stopped_service_has_longer_than_its_grace(unit: Path) -> None:
    service = parsed(unit)["Service"]
    example = environment_file(FOLDER / "turn-worker.env.example")
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["KillMode"] == ["mixed"]
    assert float(example["TURN_WORKER_SHUTDOWN_GRACE_SECONDS"]) == GRACE_SECONDS
    assert float(service["TimeoutStopSec"][0]) >= 2 * GRACE_SECONDS


@every_lasting_unit
def test_a_service_comes_back_whatever_ended_it(unit: Path) -> None:
    sections = parsed(unit)
    assert sections["Service"]["Restart"] == ["always"]
    assert sections["Unit"]["StartLimitIntervalSec"] == ["0"]


@every_lasting_unit
def test_a_service_starts_after_the_migration_but_not_only_if_it_went_well(unit: Path) -> None:
    section = parsed(unit)["Unit"]
    for directive in ("Wants", "After"):
        assert "turn-worker-migrate.service" in section[directive][0].split()
    assert "Requires" not in section


def test_all_units_are_confined_alike() -> None:
    own = {"Type", "ExecStart", "Restart", "RestartSec", "KillMode", "KillSignal", "TimeoutStopSec", "LimitNOFILE"}
    confinements = [
        {directive: value for directive, value in parsed(unit)["Service"].items() if directive not in own}
        for unit in UNITS
    ]
    assert all(confinement == confinements[0] for confinement in confinements)
    assert confinements[0]["DynamicUser"] == ["yes"]
