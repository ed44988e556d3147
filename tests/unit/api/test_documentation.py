"""The OpenAPI document says everything, and nothing wrong."""

from __future__ import annotations

import dataclasses
import re
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import SecretStr

from api_stub import schemas
from api_stub.app import create_app
from api_stub.problems import CATALOGUE, MEDIA_TYPE
from worker.settings import Settings
from worker.storage import credentials, documents, recordings, session_views, tools, transcript, turn_views, workflows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = Settings(database_url=SecretStr("postgresql://nowhere"), redis_url=SecretStr("redis://nowhere"))
    return create_app(settings).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_resource_asks_for_a_key_and_nothing_else_does(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert ("security" in operation) == (" /v1/" in name), name
        assert ("401" in operation["responses"]) == (" /v1/" in name), name
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


def test_every_post_can_be_repeated_with_a_key_of_its_own(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        keyed = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
        assert keyed == name.startswith("POST "), name


def test_every_error_is_a_problem_with_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    seen = set()
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400 or "/readyz" in name:
                continue
            content = response["content"][MEDIA_TYPE]
            schema = {**content["schema"], "components": document["components"]}
            for code, example in content["examples"].items():
                Draft202012Validator(schema).validate(example["value"])
                assert CATALOGUE[code].status == int(status)
                seen.add(code)
    assert seen == set(CATALOGUE) - {"forbidden", "bad_request", "method_not_allowed"}


def test_every_operation_and_every_model_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["description"], name
        assert operation["summary"], name
    for name, schema in document["components"]["schemas"].items():
        assert "description" in schema or name == "JsonValue", name


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])


@pytest.mark.parametrize(
    ("model", "view"),
    [
        (schemas.Session, session_views.SessionView),
        (schemas.Turn, turn_views.TurnView),
        (schemas.Workflow, workflows.WorkflowWithDefinition),
        (schemas.WorkflowSummary, workflows.Workflow),
        (schemas.Tool, tools.Tool),
        (schemas.Credential, credentials.CredentialSummary),
        (schemas.Recording, recordings.Recording),
        (schemas.Document, documents.Document),
        (schemas.Utterance, transcript.Utterance),
    ],
)
def test_what_is_documented_is_what_is_shown(model: type[BaseModel], view: type[Any]) -> None:
    assert set(model.model_fields) == {field.name for field in dataclasses.fields(view)}


def test_no_route_blocks_the_event_loop_s_thread_pool() -> None:
    """A route that is no coroutine would be run in a thread, of which there are few."""
    settings = Settings(database_url=SecretStr("postgresql://nowhere"), redis_url=SecretStr("redis://nowhere"))
    routes = [route for route in create_app(settings).routes if isinstance(route, APIRoute)]
    assert all(iscoroutinefunction(route.endpoint) for route in routes)
