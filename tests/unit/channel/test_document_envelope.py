"""What is published about documents is what the AsyncAPI document says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from jsonschema import Draft202012Validator

import worker.channel
from worker.channel.document_envelope import STATUS_REPORTED, DocumentEnvelope

ASYNCAPI: dict[str, Any] = yaml.safe_load((Path(worker.channel.__path__[0]) / "asyncapi.yaml").read_text())
SCHEMA: dict[str, Any] = ASYNCAPI["components"]["schemas"]["documentEvent"]


@pytest.mark.parametrize("event", STATUS_REPORTED)
def test_every_event_of_a_document_is_as_documented_and_says_its_status(event: str) -> None:
    envelope = DocumentEnvelope(UUID(int=1), UUID(int=2), event)
    message = json.loads(envelope.encode())
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(message)
    assert message["data"]["status"] == STATUS_REPORTED[event]
    assert envelope.channel == f"documents.{UUID(int=1)}.{UUID(int=2)}"


def test_every_type_is_documented() -> None:
    listed = [entry for entry in SCHEMA["properties"]["type"]["anyOf"] if "const" in entry]
    assert {entry["const"] for entry in listed} == set(STATUS_REPORTED)
    assert all(entry["description"] for entry in listed)
