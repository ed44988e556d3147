from __future__ import annotations

import base64
import copy
import json
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.telemetry.masking import MASK, mask_secrets, mask_values

TOKEN_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

KEY_PREFIXES = (
    *("sk-", "sk-ant-", "sk-admin-", "sk-lf-", "sk-or-", "sk-proj-", "sk-svcacct-", "twk_", "gsk_", "xai-", "hf_"),
    *(
        "ABSK",
        "AIza",
        "bedrock-api-key-",
        "nvapi-",
        "gho_",
        "ghp_",
        "ghr_",
        "ghs_",
        "ghu_",
        "github_pat_",
        "xoxa-",
        "xoxb-",
        "xoxp-",
        "xoxr-",
        "xoxs-",
        "ya29.",
    ),
)

tokens = st.text(TOKEN_CHARACTERS, min_size=24, max_size=60)
fernet_keys = st.binary(min_size=32, max_size=32).map(lambda key: base64.urlsafe_b64encode(key).decode())
fernet_tokens = st.binary(min_size=57, max_size=120).map(
    lambda token: base64.urlsafe_b64encode(b"\x80\0\0\0\0" + token).decode()
)
shaped_secrets = st.one_of(
    st.sampled_from(KEY_PREFIXES).flatmap(lambda prefix: tokens.map(lambda token: prefix + token)),
    fernet_keys,
    fernet_tokens,
    st.tuples(tokens, tokens, tokens).map(lambda parts: "eyJ" + ".".join(parts)),
    tokens.map(lambda token: f"Bearer {token}"),
    tokens.map(lambda token: f"authorization: bearer {token}"),
)
secret_names = st.sampled_from(
    [
        "api_key",
        "apiKey",
        "x-api-key",
        "ANTHROPIC_API_KEY",
        "password",
        "passwd",
        "client_secret",
        "aws_secret_access_key",
        "token",
        "access_token",
        "accessToken",
        "TURN_WORKER_SECRET_KEY",
        "private_key",
        "passphrase",
        "Authorization",
    ]
)


def secret_part(secret: str) -> str:
    """What must not be seen: the last 16 characters."""
    return secret.rstrip("=")[-16:]


@given(st.text(), shaped_secrets, st.text(), st.sampled_from(" \n\t\"'(=:,;/|"), st.sampled_from(" \n\"'),;|"))
def test_a_secret_is_masked_by_its_looks_wherever_it_stands(
    before: str, secret: str, after: str, left: str, right: str
) -> None:
    assume(secret_part(secret) not in before + after)
    masked = mask_secrets(before + left + secret + right + after)
    assert secret_part(secret) not in masked
    assert MASK in masked


@pytest.mark.parametrize("prefix", KEY_PREFIXES)
def test_a_key_keeps_the_prefix_that_says_whose_it_is(prefix: str) -> None:
    assert mask_secrets(f"sent ({prefix}0123456789abcdefABCDEF_-x) to host") == f"sent ({prefix}{MASK}) to host"


@given(secret_names, st.text(min_size=1), st.sampled_from([None, 2]))
def test_json_stays_json_and_loses_only_the_value_under_a_secret_name(
    name: str, value: str, indent: int | None
) -> None:
    text = json.dumps({"attempt": 1, name: value, "model": "claude"}, indent=indent)
    assert json.loads(mask_secrets(text)) == {"attempt": 1, name: MASK, "model": "claude"}


@given(secret_names, st.text(st.characters(exclude_characters="\"'\\", exclude_categories=["C"]), min_size=1))
def test_json_within_json_is_masked_too(name: str, value: str) -> None:
    text = json.dumps({"body": json.dumps({name: value, "n": 1}, ensure_ascii=False)}, ensure_ascii=False)
    assert json.loads(json.loads(mask_secrets(text))["body"]) == {name: MASK, "n": 1}


@given(secret_names, st.text(min_size=1))
def test_the_repr_of_a_mapping_loses_the_value_under_a_secret_name(name: str, value: str) -> None:
    masked = mask_secrets(repr({name: value, "n": 1}))
    assert masked in (f"{{'{name}': '{MASK}', 'n': 1}}", f"{{'{name}': \"{MASK}\", 'n': 1}}")


@given(secret_names, st.text(TOKEN_CHARACTERS + ".!$%*+/~^|@#", min_size=1), st.sampled_from(["=", ": ", " = "]))
def test_assignments_are_masked_to_the_end_of_the_value(name: str, value: str, separator: str) -> None:
    assume(value.lower() not in {"none", "null", "true", "false", "basic", "bearer", "digest", "token"})
    assert mask_secrets(f"sent {name}{separator}{value} to host") == f"sent {name}{separator}{MASK} to host"


@given(st.sampled_from(["postgresql", "redis", "https", "amqp"]), st.text("abc-_.%0"), st.text(min_size=1))
def test_the_password_in_a_url_is_masked_and_the_rest_stays(scheme: str, user: str, password: str) -> None:
    url = f"{scheme}://{user}:{quote(password, safe='')}@db.example:5432/app?x=1"
    assert mask_secrets(f"cannot reach {url}.") == f"cannot reach {scheme}://{user}:{MASK}@db.example:5432/app?x=1."


@given(st.lists(st.one_of(st.text(), shaped_secrets, secret_names, st.sampled_from([*"\":=,'\\@[({ ", "://", "none"]))))
def test_masking_twice_changes_nothing_more(parts: list[str]) -> None:
    once = mask_secrets("".join(parts))
    assert mask_secrets(once) == once


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pa/ss@host/0", "redis://:***@host/0"),
        ("redis://:one@h1,redis://:two@h2", "redis://:***@h1,redis://:***@h2"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("[(b'x-api-key', b'abc'), (b'accept', b'*/*')]", "[(b'x-api-key', b'***'), (b'accept', b'*/*')]"),
        ("{'x-api-key': ['abc'], 'n': 1}", "{'x-api-key': ['***'], 'n': 1}"),
        ("GET /v1?api_key=abc&page=2", "GET /v1?api_key=***&page=2"),
        ("f(password='it\\'s', n=1)", "f(password='***', n=1)"),
        ("a line\\nsk-proj-0123456789", "a line\\nsk-proj-***"),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----",
        ),
        ("Incorrect API key provided: sk-0123456789abc.", "Incorrect API key provided: sk-***."),
    ],
)
def test_only_the_secret_is_masked(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prompt_tokens: 12, completion_tokens=5, max_tokens=1024, 'cache_read_tokens': 3",
        "Set ANTHROPIC_API_KEY to your key, or send 'Authorization: Bearer <key>'.",
        "api_key=None token=null 'password': None, secret=False",
        '{"type": "authentication_error", "message": "invalid x-api-key", "request_id": "req_1"}',
        "task-0198f3f2-5a10-7c3e-9d2b-8f6a1c0e4b77 of the risk-averse desk-bound ask-me-anything",
        "http://127.0.0.1:8080/v1/turns?email=someone@example.org",
        "http://[::1]:8080/@home and postgresql://user@host/database",
        "turn 0198f3f2-5a10-7c3e-9d2b-8f6a1c0e4b77: turn_timeout after 60 s (attempt=2)",
        "idempotency_key=order-17 turn_key=5",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "token",
        'token":"',
        "://a:",
        "://u:x@",
        "sk-",
        "bearer ",
        '\\"token\\": \\"',
        "-----begin private key-----",
        "'a-",
        "a",
        " ",
    ],
)
def test_no_text_makes_masking_slow(piece: str) -> None:
    # Two thousand times the work of a linear pattern, if one of them were quadratic: minutes, and the test's time limit.
    mask_secrets("token: " + piece * (400_000 // len(piece)) + "=")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), shaped_secrets),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner), st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@given(json_values, shaped_secrets, secret_names, tokens)
def test_no_secret_survives_in_a_structure_of_any_shape(value: Any, secret: str, name: str, token: str) -> None:
    assume(token not in repr(value) and secret_part(secret) not in repr((value, name)))
    structure = {"a": [value, {"b": (value, f"it was {secret}")}], "headers": {name: token}, "c": {name: [token]}}
    structure["pairs"] = [(name, token), (name.encode(), token.encode())]
    before = copy.deepcopy(structure)
    masked = json.dumps(mask_values(structure))
    assert secret_part(secret) not in masked
    assert token not in masked
    assert structure == before


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("xyz"), inner),
    )
)
def test_a_structure_without_secrets_stays_as_it_is(value: object) -> None:
    def too_deep(item: object, depth: int = 0) -> bool:
        inner = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        return depth > 7 or any(too_deep(child, depth + 1) for child in inner)

    assume(not too_deep(value))
    assert mask_values(value) == value


def test_whether_a_secret_is_set_can_still_be_seen() -> None:
    assert mask_values({"api_key": None, "password": "", "has_token": True, "secret": "x", "token": 5}) == {
        "api_key": None,
        "password": "",
        "has_token": True,
        "secret": MASK,
        "token": MASK,
    }


def test_values_that_json_does_not_know_become_text() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert mask_values(
        {
            "id": UUID(int=1),
            "path": PurePosixPath("/a"),
            "error": ValueError("token=abc"),
            "body": b"token=abc",
            "defect": Unprintable(),
            1: {2},
        }
    ) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "/a",
        "error": "ValueError('token=***')",
        "body": "b'token=***'",
        "defect": "<Unprintable that cannot be shown: RuntimeError>",
        "1": [2],
    }


def test_a_structure_that_contains_itself_comes_to_an_end() -> None:
    structure: dict[str, Any] = {"token": "abc"}
    structure["self"] = structure
    text = json.dumps(mask_values(structure))
    assert "abc" not in text
    assert len(text) < 1000
