"""Gemini on Vertex AI: how a service account signs in, and what Vertex AI does not take. The rest is as by Gemini's own API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from tests.integration.engine.talk import VERTEX, model_of, tool
from tests.service_account import EMAIL, PROJECT, service_account_key
from tests.web_server import web_server
from worker.engine import failures
from worker.engine.llm.google.vertex import VertexPlace, vertex_place
from worker.workflow.web_address import NO_HOSTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from tests.web_server import WebServer
    from worker.engine.request import ResolvedModel

GENERATE = (
    f"/v1beta1/projects/{PROJECT}/locations/global/publishers/google/models/claude-sonnet-5:streamGenerateContent"
)


def at_a_server(talk: Talk, server: WebServer, **key: Any) -> ResolvedModel:
    """The model of a server that answers what the test says, tokens included."""
    return model_of(talk, base_url=server.url, api_key=SecretStr(service_account_key(server.url, **key)))


async def look(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return {"day": arguments["day"]}


@VERTEX
async def test_calls_and_their_results_are_told_apart_by_their_order_also_those_of_another_provider(talk: Talk) -> None:
    vertex = model_of(talk)
    talk.at("book")
    talk.tools.by_node["book"] = [tool("look", look)]
    talk.script(
        {"when": {"user_contains": "And then"}, "reply": "That was it."},
        {"when": {"after_tool_result": "back"}, "reply": "Anything else?"},
        {"when": {"after_tool_result": "look"}, "reply": [{"thinking": "Hm."}, {"text": "No."}, {"tool": "back"}]},
        {"reply": [{"tool": "look", "input": {"day": "Monday"}}, {"tool": "look", "input": {"day": "Friday"}}]},
    )

    outcome = await talk.turn("When?", model=replace(vertex, provider="google"))
    talk.at("book", *talk.checkpoint.messages)
    again = await talk.turn("When, please?")
    await talk.turn("And then?")

    assert outcome.assistant_text == again.assistant_text == "No.\n\nAnything else?"
    assert list(again.usage.llm) == ["GoogleVertexLLMService|||claude-sonnet-5"]
    assert [request.refused for request in talk.llm.requests] == [None] * 7
    answers = [
        part["functionResponse"]
        for content in talk.llm.requests[-1].body["contents"]
        for part in content["parts"]
        if "functionResponse" in part
    ]
    assert (
        answers
        == [
            {"name": "look", "response": {"day": "Monday"}},
            {"name": "look", "response": {"day": "Friday"}},
            {"name": "back", "response": {"status": "done"}},
        ]
        * 2
    )


@VERTEX
async def test_the_project_is_the_service_accounts_and_the_location_global_unless_the_base_url_says_more(
    talk: Talk,
) -> None:
    elsewhere = f"{talk.llm.base_url}/v1/projects/other/locations/europe-west4"

    await talk.turn("Hi")
    await talk.turn("Hi", model=model_of(talk, base_url=elsewhere))

    assert [request.path for request in talk.llm.requests] == [
        GENERATE,
        "/v1beta1/projects/other/locations/europe-west4/publishers/google/models/claude-sonnet-5:streamGenerateContent",
    ]


@pytest.mark.parametrize(
    ("base_url", "place"),
    [
        ("https://aiplatform.googleapis.com", ("https://aiplatform.googleapis.com", None, "global")),
        (
            "https://us-east5-aiplatform.googleapis.com/v1beta1/",
            ("https://us-east5-aiplatform.googleapis.com", None, "us-east5"),
        ),
        ("https://aiplatform.eu.rep.googleapis.com", ("https://aiplatform.eu.rep.googleapis.com", None, "eu")),
        (
            "https://gateway.example:8443/vertex/v1/projects/p/locations/us-east5",
            ("https://gateway.example:8443/vertex", "p", "us-east5"),
        ),
        ("https://gateway.example/projects", ("https://gateway.example/projects", None, "global")),
    ],
)
def test_a_base_url_names_the_location_by_its_host_or_its_path(
    base_url: str, place: tuple[str, str | None, str]
) -> None:
    assert vertex_place(base_url) == VertexPlace(*place)


@VERTEX
async def test_one_token_serves_all_turns_until_it_is_not_taken_any_more(talk: Talk) -> None:
    async with talk.clients.lend(model_of(talk)):  # keeps the client from one turn to the next
        await asyncio.gather(*(talk.turn("Hi") for _ in range(3)))
        (first,) = {request.api_key for request in talk.llm.requests}
        talk.script(rejected_keys=[first])
        talk.llm.clear()

        await talk.turn("Hi again")

    rejected, taken = talk.llm.requests
    assert (rejected.api_key, rejected.refused is None) == (first, False)
    assert (taken.api_key == first, taken.refused) == (False, None)


@VERTEX
async def test_a_token_that_is_about_to_expire_is_not_used_again(talk: Talk) -> None:
    async with web_server() as server:
        server.answer("/token", {"access_token": "short-lived", "expires_in": 60})
        server.answer(GENERATE, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "Busy."}}, status=503)
        talk.model = at_a_server(talk, server)

        async with talk.clients.lend(talk.model):
            for _ in range(2):
                with pytest.raises(failures.LLMOverloaded):
                    await talk.turn("Hi")

    assert [received.path for received in server.received] == ["/token", GENERATE] * 2
    assert server.received[1].headers["Authorization"] == "Bearer short-lived"


@VERTEX
async def test_an_account_that_gets_no_token_fails_the_turn_for_good_with_the_reason(talk: Talk) -> None:
    talk.script(rejected_keys=[EMAIL])

    with pytest.raises(
        failures.LLMAuthenticationFailed, match=rf"{EMAIL} .* invalid_grant: .*account not found\."
    ) as failed:
        await talk.turn("Hi")

    assert "PRIVATE KEY" not in str(failed.value)
    assert talk.llm.requests == []


@VERTEX
@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (503, "<html>Busy</html>", failures.LLMUnavailable),
        (429, {"error": "rate_limit_exceeded"}, failures.LLMRateLimited),
        (200, {"id_token": "eyJ"}, failures.LLMUnavailable),
        (307, "", failures.LLMAuthenticationFailed),
    ],
)
async def test_an_answer_without_a_token_is_classified_by_its_status(
    talk: Talk, status: int, answer: Any, expected: type[failures.TurnFailed]
) -> None:
    async with web_server() as server:
        server.answer("/token", answer, status=status, headers={"Location": "http://127.0.0.2/"})
        with pytest.raises(expected, match=f"no access token by 127.0.0.1 .answered {status}"):
            await talk.turn("Hi", model=at_a_server(talk, server))
        assert [received.path for received in server.received] == ["/token"]


@VERTEX
@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("AIzaSyA-no-service-account", "no JSON object"),
        (
            '{"type": "authorized_user", "client_id": "x"}',
            "client_email, private_key, private_key_id, project_id, token_uri",
        ),
        (service_account_key("http://169.254.169.254"), "token_uri"),
        (service_account_key("https://oauth2.googleapis.com", private_key="none"), "private_key"),
    ],
)
async def test_a_key_that_is_no_service_accounts_is_one_clear_message_and_never_quoted(
    talk: Talk, key: str, problem: str
) -> None:
    with pytest.raises(failures.LLMNotConfigured, match=problem) as failed:
        await talk.turn("Hi", model=model_of(talk, api_key=SecretStr(key)))
    assert not any(secret in str(failed.value) for secret in ("AIza", "PRIVATE KEY", "169.254"))


@VERTEX
async def test_a_tenants_token_uri_is_judged_like_the_base_url_that_it_shares_its_host_with(talk: Talk) -> None:
    async with web_server() as server:
        with pytest.raises(failures.LLMAddressRefused, match="allowed hosts"):
            await talk.turn("Hi", model=replace(at_a_server(talk, server), allowed_hosts=NO_HOSTS))
        assert server.received == []


@VERTEX
async def test_nothing_of_the_environment_leads_a_request_elsewhere(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GEMINI_API_KEY": "the-operators",
        "GOOGLE_API_KEY": "the-operators",
        "GOOGLE_APPLICATION_CREDENTIALS": "/dev/null",
        "GOOGLE_CLOUD_LOCATION": "the-operators",
        "GOOGLE_CLOUD_PROJECT": "the-operators",
        "GOOGLE_CLOUD_QUOTA_PROJECT": "the-operators",
        "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    assert (request.path, "the-operators" in str(request.headers)) == (GENERATE, False)
