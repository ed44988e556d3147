"""Credentials: the headers they become, and that nothing else shows what is in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from worker.workflow.credential import Credential, UnknownCredential, open_credential, sealed_form

SECRET = "s3cret-of-the-clinic"
CREDENTIALS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"kind": "bearer", "token": SECRET}, {"Authorization": f"Bearer {SECRET}"}),
    (
        {"kind": "basic", "username": "desk", "password": SECRET},
        {"Authorization": "Basic ZGVzazpzM2NyZXQtb2YtdGhlLWNsaW5pYw=="},
    ),
    ({"kind": "api_key_header", "key": SECRET}, {"X-API-Key": SECRET}),
    ({"kind": "custom_header", "header": "X-Desk", "value": SECRET}, {"X-Desk": SECRET}),
]
each_kind = pytest.mark.parametrize(("written", "headers"), CREDENTIALS, ids=[kind["kind"] for kind, _ in CREDENTIALS])


def read(written: dict[str, Any]) -> Credential:
    adapter: TypeAdapter[Credential] = TypeAdapter(Credential, config=ConfigDict(hide_input_in_errors=True))
    return adapter.validate_python(written)


@each_kind
def test_a_credential_becomes_a_header_and_survives_being_sealed(
    written: dict[str, Any], headers: dict[str, str]
) -> None:
    credential = read(written)
    assert credential.headers() == headers
    assert open_credential("desk", sealed_form(credential)) == credential


@each_kind
def test_nothing_but_its_headers_and_its_sealed_form_shows_what_is_secret(
    written: dict[str, Any], headers: dict[str, str]
) -> None:
    assert headers
    credential = read(written)
    for shown in (repr(credential), str(credential), credential.model_dump_json(), str(credential.model_dump())):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "written",
    [
        {"kind": "bearer", "token": f"{SECRET}\r\nX-Evil: 1"},
        {"kind": "bearer", "token": f"{SECRET}\u00e4"},
        {"kind": "bearer", "token": " "},
        {"kind": "bearer", "token": SECRET * 1000},
        {"kind": "basic", "username": "a:b", "password": SECRET},
        {"kind": "basic", "username": "a\nb", "password": SECRET},
        {"kind": "custom_header", "header": "X Evil", "value": SECRET},
        {"kind": "custom_header", "header": "X-Evil:", "value": SECRET},
        {"kind": "bearer", "token": SECRET, "password": SECRET},
    ],
)
def test_what_could_not_be_sent_or_would_send_more_is_refused_without_being_shown(written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        read(written)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("sealed", [f'{{"kind": "oauth", "secret": "{SECRET}"}}', f'["{SECRET}"]', SECRET])
def test_a_kind_that_this_release_does_not_know_is_an_error_that_quotes_nothing(sealed: str) -> None:
    with pytest.raises(UnknownCredential, match="'desk' is of a kind") as refused:
        open_credential("desk", sealed)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
