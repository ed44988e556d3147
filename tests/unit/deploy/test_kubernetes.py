from __future__ import annotations

from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from api_stub.routes import health
from tests.unit.deploy.commands import refusal
from tests.unit.deploy.project import DEPLOY, GRACE_SECONDS, PYPROJECT, SETTINGS, environment_file

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]
DEPLOYMENTS = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "Deployment"}
PODS: dict[str, dict[str, Any]] = {name: spec["template"]["spec"] for name, spec in DEPLOYMENTS.items()}
CONTAINERS = {
    f"{name}/{container['name']}": container
    for name, pod in PODS.items()
    for container in (*pod["initContainers"], *pod["containers"])
}
API = CONTAINERS["turn-worker-api/api"]


def test_every_file_of_objects_is_applied() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"} == set(KUSTOMIZATION["resources"])


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_what_is_selected_are_the_pods_of_a_deployment(each: dict[str, Any]) -> None:
    selector = each["spec"]["selector"]
    labels = [spec["template"]["metadata"]["labels"] for spec in DEPLOYMENTS.values()]
    assert selector.get("matchLabels", selector) in labels


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_runs_a_command_that_the_program_takes(name: str) -> None:
    assert refusal(CONTAINERS[name]["args"]) is None


def test_the_image_is_the_projects_version() -> None:
    (image,) = KUSTOMIZATION["images"]
    assert {container["image"] for container in CONTAINERS.values()} == {image["name"]}
    assert image["newTag"] == PYPROJECT["project"]["version"]


def test_what_is_set_is_a_setting() -> None:
    (config,) = KUSTOMIZATION["configMapGenerator"]
    given = {literal.partition("=")[0] for literal in config["literals"]}
    given |= environment_file(FOLDER / "secrets.env.example").keys()
    given |= {variable["name"] for container in CONTAINERS.values() for variable in container.get("env", [])}
    assert given <= SETTINGS


def test_every_container_has_the_settings_and_the_secrets() -> None:
    generated = {each["name"] for kind in ("configMapGenerator", "secretGenerator") for each in KUSTOMIZATION[kind]}
    for container in CONTAINERS.values():
        assert {next(iter(source.values()))["name"] for source in container["envFrom"]} == generated


def test_the_secrets_are_in_no_commit() -> None:
    (secrets,) = KUSTOMIZATION["secretGenerator"]
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert [f"/deploy/kubernetes/{file}" for file in secrets["envs"]] == [line for line in ignored if "kube" in line]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_longer_than_its_grace(name: str) -> None:
    assert PODS[name]["terminationGracePeriodSeconds"] >= 2 * GRACE_SECONDS


@pytest.mark.parametrize("name", PODS)
def test_no_variable_of_a_service_is_taken_for_a_setting(name: str) -> None:
    assert PODS[name]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_the_images_user_and_no_container_has_privileges_or_writes_but_in_memory(name: str) -> None:
    user = str(PODS[name]["securityContext"]["runAsUser"])
    assert f"\nUSER {user}:" in (DEPLOY / "Dockerfile").read_text()
    assert [volume["emptyDir"] for volume in PODS[name]["volumes"]] == [{"medium": "Memory"}]
    for container in (*PODS[name]["initContainers"], *PODS[name]["containers"]):
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_the_api_is_probed_where_it_answers(probe: str) -> None:
    asked = API[probe]["httpGet"]
    assert asked["port"] in {port["name"] for port in API["ports"]}
    assert asked["path"] in {route.path for route in health.router.routes if isinstance(route, APIRoute)}


def test_ports_are_those_the_program_listens_on() -> None:
    assert [port["containerPort"] for port in API["ports"]] == [8080]
    worker = CONTAINERS["turn-worker-worker/worker"]
    (setting,) = worker["env"]
    assert [port["containerPort"] for port in worker["ports"]] == [int(setting["value"])]
