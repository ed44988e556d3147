from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from worker.workflow.tool_definition import (
    HttpRequestDefinition,
    InvalidTool,
    ToolDefinition,
    ToolParameter,
    load_tool,
    parse_tool,
    stored_form,
)

HTTP: dict[str, Any] = {
    "type": "http_request",
    "name": "find_slots",
    "description": "Find free appointments.",
    "url": "https://clinic.example/slots/{{ arguments.day }}",
    "parameters": [{"name": "day", "description": "YYYY-MM-DD"}],
}
MCP: dict[str, Any] = {"type": "mcp_server", "name": "calendar", "url": "https://calendar.example/mcp"}
SHORTEST = [HTTP, MCP, *({"type": kind} for kind in ("calculator", "current_time", "end_conversation", "hand_over"))]


def problems(**changes: Any) -> dict[str, str]:
    """What is wrong with the HTTP request once it is changed, by the path of the field."""
    with pytest.raises(InvalidTool) as refused:
        parse_tool({**HTTP, **changes})
    return {".".join(map(str, problem.path)): problem.message for problem in refused.value.problems}


def http(**changes: Any) -> HttpRequestDefinition:
    definition = parse_tool({**HTTP, **changes})
    assert isinstance(definition, HttpRequestDefinition)
    return definition


@pytest.mark.parametrize("written", SHORTEST, ids=lambda written: str(written["type"]))
def test_every_type_is_accepted_with_what_it_needs_and_reads_the_same_from_its_stored_form(
    written: dict[str, Any],
) -> None:
    definition = parse_tool(written)
    assert definition.type == written["type"]
    assert definition.name
    assert load_tool(stored_form(definition)) == definition


@pytest.mark.parametrize("written", [{"type": "fax"}, {"name": "x"}, {"type": 5}, [], None, "calculator"])
def test_what_is_no_tool_is_answered_with_the_types_there_are(written: object) -> None:
    with pytest.raises(InvalidTool, match=r"one of http_request, calculator, .* mcp_server"):
        parse_tool(written)


def test_every_problem_is_told_at_once_also_those_between_two_fields() -> None:
    found = problems(
        name="find slots",
        description=" ",
        url="http://{{ host }}/",
        method="POST",
        headers={"X-A": "a\nb"},
        retries=2,
        message="One moment.",
        message_recording_id="r1",
        timeout_seconds=900,
        colour="red",
    )
    assert set(found) == {
        "name",
        "description",
        "url",
        "headers.X-A",
        "retries",
        "message_recording_id",
        "timeout_seconds",
        "colour",
    }


def test_null_means_absent() -> None:
    assert http(credential=None, timeout_seconds=None, parameters=None) == http(parameters=[])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Authorization", "Store a credential"),
        ("cookie", "Store a credential"),
        ("Host", "set by the worker"),
        ("idempotency-key", "set by the worker"),
        ("X Y", "characters"),
        ("", "empty"),
    ],
)
def test_headers_that_carry_secrets_or_are_not_the_users_are_refused(name: str, hint: str) -> None:
    assert hint in problems(headers={name: "x"})[f"headers.{name}"]


@pytest.mark.parametrize(
    "url", ["ftp://x/", "x", "https://", "https://user:word@x.example/", "https://x/{{ a", "https://x\n/"]
)
def test_a_url_that_leads_elsewhere_or_carries_a_password_is_refused(url: str) -> None:
    assert set(problems(url=url, parameters=[])) == {"url"}


def test_templates_are_checked_wherever_they_stand() -> None:
    found = problems(method="POST", headers={"X": "{{ a"}, query={"q": "{{ b"}, body={"list": ["{{ c"]}, message="{{ d")
    assert set(found) >= {"headers.X", "query.q", "body", "message"}


def test_a_body_needs_a_method_that_has_one() -> None:
    assert "no body" in problems(method="GET", body={"day": "{{ arguments.day }}"})["body"]


def test_an_argument_that_goes_nowhere_is_a_problem() -> None:
    found = problems(method="POST", url="https://x.example/", body={"a": 1}, presets={"who": "{{ name }}"})
    assert "{{ arguments.day }}" in found["parameters"]
    assert "`who` is used nowhere" in found["presets"]


def test_arguments_that_no_template_names_are_known() -> None:
    parameters = [{"name": "day"}, {"name": "hour", "type": "integer"}]
    assert http(parameters=parameters, presets={"who": "{{ name }}"}).unplaced_arguments == ("hour", "who")
    placed = http(parameters=parameters, query={"at": "h{{arguments.hour|9}}"})
    assert placed.unplaced_arguments == ()


def test_an_argument_has_one_source() -> None:
    assert "more than once" in problems(parameters=[{"name": "day"}, {"name": "day"}])["parameters"]
    assert "`day` is a parameter already" in problems(presets={"day": "Monday"})["presets"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_methods_that_may_be_sent_twice_can_be_retried(method: str) -> None:
    assert http(method=method, retries=3).retries == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_methods_can_be_retried_only_where_the_server_honours_an_idempotency_key(method: str) -> None:
    assert "accepts_idempotency_key" in problems(method=method, retries=1)["retries"]
    assert http(method=method, retries=1, accepts_idempotency_key=True).retries == 1


def test_an_mcp_server_has_one_address_in_every_conversation() -> None:
    with pytest.raises(InvalidTool, match="url: This address has no placeholders"):
        parse_tool({**MCP, "url": "https://calendar.example/{{ tenant }}"})


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "America", "../etc/passwd"])
def test_a_default_zone_must_exist(zone: str) -> None:
    with pytest.raises(InvalidTool, match="zone: There is no such time zone"):
        parse_tool({"type": "current_time", "zone": zone})


def test_a_parameter_is_described_to_the_model_as_json_schema() -> None:
    assert ToolParameter(name="a", type="integer", description="How many.").json_schema() == {
        "type": "integer",
        "description": "How many.",
    }
    assert ToolParameter(name="a", type="array").json_schema() == {"type": "array", "items": {}}


def test_a_stored_tool_that_another_release_wrote_still_runs() -> None:
    stored = {**stored_form(http()), "signature": {"algorithm": "hmac"}, "retries": 99}
    assert load_tool(stored) == http()


def test_a_stored_tool_that_lacks_what_it_needs_is_refused() -> None:
    with pytest.raises(InvalidTool, match="url: It is needed"):
        load_tool({key: value for key, value in stored_form(http()).items() if key != "url"})


def test_the_schema_of_tools_can_be_shown_to_people() -> None:
    schema = TypeAdapter(ToolDefinition).json_schema()
    assert len(schema["oneOf"]) == len(SHORTEST)
    assert "GET or DELETE" in schema["$defs"]["HttpRequestDefinition"]["description"]
