"""The scripted LLM's Vertex AI: the tokens it gives out and takes, and what it refuses of what Gemini's own API takes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from google.auth import crypt, jwt

from tests.service_account import EMAIL, service_account_key

if TYPE_CHECKING:
    from worker.embedded.scripted_llm import ScriptedLLM

GENERATE = "/v1beta1/projects/p/locations/global/publishers/google/models/gemini-3.6-flash:generateContent"
USER = {"role": "user", "parts": [{"text": "Hello"}]}
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def assertion(llm: ScriptedLLM, **changes: Any) -> str:
    key = json.loads(service_account_key(llm.base_url))
    now = int(time.time())
    claims = {"iss": EMAIL, "scope": SCOPE, "aud": key["token_uri"], "iat": now, "exp": now + 3600, **changes}
    signer = crypt.RSASigner.from_service_account_info(key)  # type: ignore[no-untyped-call]
    signed: bytes = jwt.encode(signer, claims)  # type: ignore[no-untyped-call]
    return signed.decode()


async def token(llm: ScriptedLLM, **form: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.post(f"{llm.base_url}/token", data={"grant_type": GRANT_TYPE, **form})


async def posted(llm: ScriptedLLM, bearer: str, *contents: Any) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        headers = {"Authorization": f"Bearer {bearer}"}
        return await http.post(f"{llm.base_url}{GENERATE}", json={"contents": contents}, headers=headers)


async def test_a_token_is_given_for_a_signed_assertion_and_opens_the_api(llm: ScriptedLLM) -> None:
    given = (await token(llm, assertion=assertion(llm))).json()

    answered, turned_away = await posted(llm, given["access_token"], USER), await posted(llm, "made-up", USER)

    assert answered.json()["candidates"][0]["content"]["parts"] == [{"text": "You said: Hello"}]
    assert (turned_away.status_code, turned_away.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert "authorization" not in llm.requests[0].headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://oauth2.googleapis.com/token"}, "invalid_grant"),
        ({"exp": 2**40}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope"),
        ({"scope": None}, "invalid_request"),
    ],
)
async def test_an_assertion_is_refused_that_google_would_refuse(
    llm: ScriptedLLM, changes: dict[str, Any], error: str
) -> None:
    refused = await token(llm, assertion=assertion(llm, **changes))
    assert (refused.status_code, refused.json()["error"]) == (400, error)


async def test_what_is_no_assertion_or_another_grant_gets_no_token(llm: ScriptedLLM) -> None:
    assert (await token(llm, assertion="no.such.thing")).json()["error"] == "invalid_request"
    assert (await token(llm, grant_type="refresh_token")).json()["error"] == "unsupported_grant_type"


async def test_calls_with_ids_are_refused(llm: ScriptedLLM) -> None:
    given = (await token(llm, assertion=assertion(llm))).json()
    call = {"functionCall": {"id": "1", "name": "look", "args": {}}, "thoughtSignature": "c2tpcA=="}
    result = {"functionResponse": {"name": "look", "response": {"value": "ten"}}}

    refused = await posted(
        llm, given["access_token"], USER, {"role": "model", "parts": [call]}, {"role": "user", "parts": [result]}
    )

    assert refused.status_code == 400
    assert "Unknown name \"id\" at 'contents[1].parts[0].function_call'" in refused.json()["error"]["message"]
