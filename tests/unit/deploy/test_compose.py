from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.unit.deploy.commands import refusal
from tests.unit.deploy.project import DEPLOY, GRACE_SECONDS, PYPROJECT, SETTINGS, environment_file

FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DEPENDENCIES = [
    (name, target, wait["condition"])
    for name, service in SERVICES.items()
    for target, wait in service.get("depends_on", {}).items()
]
COLLECTOR: dict[str, Any] = yaml.safe_load((DEPLOY / "otel-collector.yaml").read_text())


def has_health_check(service: dict[str, Any]) -> bool:
    # Ours have the image's.
    check = service.get("healthcheck")
    return "build" in service if check is None else not check.get("disable", False)


def mounts(service: dict[str, Any]) -> list[str]:
    return [mount.split(":")[0] for mount in service.get("volumes", [])]


def test_it_is_what_the_compose_specification_allows() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    command = [sys.executable, "-m", "check_jsonschema", *schema, str(FILE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_whole_system_is_there_and_the_collector_only_if_asked_for() -> None:
    assert SERVICES.keys() == {"postgres", "redis", "migrate", "api", "worker", "otel-collector"}
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"otel-collector"}


@pytest.mark.parametrize(("name", "target", "condition"), DEPENDENCIES)
def test_what_a_service_waits_for_can_happen(name: str, target: str, condition: str) -> None:
    service = SERVICES[target]
    assert service.get("profiles") in (None, SERVICES[name].get("profiles"))
    if condition == "service_completed_successfully":
        assert service["restart"] == "no"
    else:
        assert condition == "service_healthy"
        assert has_health_check(service)


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_api_and_the_workers_wait_for_the_migration(name: str) -> None:
    assert (name, "migrate", "service_completed_successfully") in DEPENDENCIES


def test_the_one_role_that_listens_has_a_health_check() -> None:
    assert {name for name, service in OURS.items() if has_health_check(service)} == {"api"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_by_a_tag(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d[\w.-]*", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_image_is_built_from_the_dockerfile_and_carries_the_projects_version(name: str) -> None:
    build = OURS[name]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert OURS[name]["image"].split(":")[1] == PYPROJECT["project"]["version"]


@pytest.mark.parametrize("name", OURS)
def test_every_role_runs_a_command_that_the_program_takes(name: str) -> None:
    assert refusal(OURS[name]["command"]) is None


@pytest.mark.parametrize("name", OURS)
def test_what_is_set_is_a_setting(name: str) -> None:
    assert OURS[name]["environment"].keys() <= SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_a_stopped_role_has_longer_than_its_grace(name: str) -> None:
    period = re.fullmatch(r"(\d+)s", OURS[name]["stop_grace_period"])
    assert period
    assert int(period[1]) >= 2 * GRACE_SECONDS


@pytest.mark.parametrize("name", OURS)
def test_a_role_has_no_privileges_and_writes_nowhere_but_in_memory(name: str) -> None:
    service = OURS[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"]
    assert mounts(service) == []


def test_every_variable_is_in_the_example() -> None:
    example = environment_file(DEPLOY / ".env.example")
    for variable, default in re.findall(r"\$\{(\w+)(:-|:\?)", FILE.read_text()):
        assert variable in example or (default == ":-" and variable in SETTINGS)
    assert not re.search(r"\$\w|\$\{\w+\}", FILE.read_text())


def test_every_volume_is_declared_and_every_mounted_file_exists() -> None:
    sources = {source for service in SERVICES.values() for source in mounts(service)}
    assert {source for source in sources if not source.startswith(".")} == COMPOSE["volumes"].keys()
    assert all((DEPLOY / source).is_file() for source in sources if source.startswith("."))


def test_nothing_is_open_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_redis_never_evicts() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_the_collectors_pipelines_use_what_is_defined_and_all_of_it() -> None:
    pipelines = COLLECTOR["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {part for pipeline in pipelines for part in pipeline[kind]} == COLLECTOR[kind].keys()


def test_the_collector_watches_the_servers_there_are() -> None:
    endpoints = [COLLECTOR["receivers"][server]["endpoint"].split(":")[0] for server in ("postgresql", "redis")]
    assert set(endpoints) <= SERVICES.keys()
    read = re.findall(r"\$\{env:(\w+)\}", (DEPLOY / "otel-collector.yaml").read_text())
    assert set(read) <= SERVICES["otel-collector"]["environment"].keys()
