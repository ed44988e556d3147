from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from tests.service_account import service_account_key
from worker.cli.servers import transaction
from worker.storage.organizations import find_organization
from worker.storage.secrets import Vault, get_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


@pytest.fixture(autouse=True)
def acme(done: Callable[..., str]) -> None:
    done("org", "create", "acme")


@pytest.fixture
def configured(done: Callable[..., str]) -> Callable[..., Any]:
    """Calls `config set` and returns the LLM defaults that are left."""

    def call(*arguments: str, stdin: str | None = None) -> Any:
        done("config", "set", "--org", "acme", *arguments, stdin=stdin)
        return shown(done)["model_defaults"]

    return call


@pytest.fixture
def refused(command: Callable[..., Result]) -> Callable[..., str]:
    """Calls `config set`, which has to fail, and returns its complaint."""

    def call(*arguments: str, stdin: str | None = None) -> str:
        result = command("config", "set", "--org", "acme", *arguments, stdin=stdin)
        assert result.exit_code == 1, result.output
        return result.stderr

    return call


@pytest.fixture
def stored_secret(database_url: str, secret_key: str) -> Callable[[str], str]:
    async def read(name: str) -> str:
        async with transaction(database_url) as connection:
            owner = await find_organization(connection, name="acme")
            return await get_secret(connection, Vault(SecretStr(secret_key)), organization_id=owner.id, name=name)

    return lambda name: asyncio.run(read(name))


def shown(done: Callable[..., str]) -> Any:
    return json.loads(done("config", "show", "--org", "acme"))


def test_an_organization_begins_with_the_operators_configuration(done: Callable[..., str]) -> None:
    assert shown(done) == {"model_defaults": None, "secrets": []}


def test_every_field_can_be_set(configured: Callable[..., Any]) -> None:
    assert configured(
        "--provider", "openai", "--model", "gpt-x", "--base-url", "https://llm.test/v1", "--max-tokens", "500",
        "--temperature", "0.3", "--parameter", "seed=7", "--parameter", "user=acme",
        "--secret", "acme-key", "--api-key-secret", "acme-key", stdin="sk-123\n",
    ) == {
        "provider": "openai",
        "model": "gpt-x",
        "base_url": "https://llm.test/v1",
        "api_key": {"secret": "acme-key"},
        "max_tokens": 500,
        "temperature": 0.3,
        "parameters": {"seed": 7, "user": "acme"},
    }  # fmt: skip


def test_a_fallback_can_be_set_and_says_what_it_lacks(
    configured: Callable[..., Any], refused: Callable[..., str]
) -> None:
    assert configured("--effort", "low", "--fallback", '{"model": "claude-y"}')["fallback"] == {
        "model": "claude-y",
        "parameters": {},
    }
    message = refused("--fallback", '{"provider": "groq"}')
    assert "fallback.model: Name a model" in message
    assert "fallback.api_key: Name the key of 'groq'" in message


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--provider", "nobody"), "There is no LLM provider 'nobody'"),
        (("--provider", "openai"), "model: Name a model"),
        (("--provider", "ollama", "--model", "m"), "base_url: Name the address, such as http://localhost:11434/v1"),
        (("--provider", "aws", "--model", "m"), "such as https://bedrock-runtime.us-east-1.amazonaws.com"),
        (("--provider", "groq", "--model", "m"), "api_key: Name the key"),
    ],
)
def test_defaults_that_could_not_be_called_are_refused(
    refused: Callable[..., str], given: tuple[str, ...], says: str
) -> None:
    assert says in refused(*given)


def test_what_is_not_named_stays_as_it_was(configured: Callable[..., Any]) -> None:
    configured("--model", "claude-x", "--parameter", "top_k=5")
    assert configured("--temperature", "0", "--parameter", "top_p=0.5") == {
        "model": "claude-x",
        "temperature": 0.0,
        "parameters": {"top_k": 5, "top_p": 0.5},
    }


def test_what_is_unset_is_the_operators_again(configured: Callable[..., Any]) -> None:
    configured("--model", "claude-x", "--max-tokens", "5")
    assert configured("--unset", "model") == {"max_tokens": 5}
    assert configured("--unset", "max_tokens") is None


@pytest.mark.parametrize(
    "new", [("--provider", "openai", "--model", "gpt-x"), ("--base-url", "https://elsewhere.test")]
)
def test_a_key_is_not_taken_along_to_another_address(configured: Callable[..., Any], new: tuple[str, ...]) -> None:
    configured("--secret", "key", "--api-key-secret", "key", stdin="sk-123")
    assert "api_key" not in configured(*new)


def test_a_secret_is_read_from_standard_input_and_stored_encrypted(
    done: Callable[..., str], stored_secret: Callable[[str], str]
) -> None:
    output = done("config", "set", "--org", "acme", "--secret", "key", stdin="sk-123\n")
    assert "sk-123" not in output
    assert stored_secret("key") == "sk-123"
    (entry,) = shown(done)["secrets"]
    assert entry["name"] == "key"
    assert "sk-123" not in json.dumps(entry)


def test_a_secret_is_read_from_a_variable(
    configured: Callable[..., Any], stored_secret: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-456")
    configured("--secret", "key", "--from-env", "ACME_KEY")
    assert stored_secret("key") == "sk-456"


def test_a_key_may_stay_in_a_variable_of_the_workers(configured: Callable[..., Any]) -> None:
    configured("--provider", "google", "--model", "gemini-2.5-flash", "--api-key-env", "GEMINI_API_KEY")
    assert configured("--temperature", "0")["api_key"] == {"environment": "GEMINI_API_KEY"}


def test_a_secret_can_be_replaced_and_forgotten(
    configured: Callable[..., Any], done: Callable[..., str], stored_secret: Callable[[str], str]
) -> None:
    configured("--secret", "key", stdin="old")
    configured("--secret", "key", stdin="new")
    assert stored_secret("key") == "new"
    configured("--delete-secret", "key")
    assert shown(done)["secrets"] == []


def test_a_secret_that_is_in_use_cannot_be_forgotten(
    configured: Callable[..., Any], refused: Callable[..., str], stored_secret: Callable[[str], str]
) -> None:
    configured("--secret", "key", "--api-key-secret", "key", stdin="sk-123")
    assert "no secret named 'key'" in refused("--delete-secret", "key")
    assert stored_secret("key") == "sk-123"


def test_a_reference_to_a_secret_that_is_not_there_changes_nothing(
    refused: Callable[..., str], done: Callable[..., str]
) -> None:
    assert "no secret named 'key'" in refused("--api-key-secret", "key", "--model", "claude-x")
    assert shown(done)["model_defaults"] is None


def test_the_key_of_a_fallback_has_to_be_there_too(refused: Callable[..., str]) -> None:
    fallback = {"provider": "openai", "model": "gpt-x", "api_key": {"secret": "gone"}}
    assert "no secret named 'gone'" in refused("--fallback", json.dumps(fallback))


def test_a_key_that_its_provider_cannot_take_is_refused_and_not_shown(
    configured: Callable[..., Any], refused: Callable[..., str]
) -> None:
    vertex = ("--provider", "google-vertex", "--model", "gemini-2.5-flash", "--api-key-secret", "v", "--secret", "v")
    complaint = refused(*vertex, stdin="AIzaSyA-no-service-account")
    assert "api_key: The API key has to be the JSON of a Google service account's key" in complaint
    assert "AIza" not in complaint
    key = service_account_key("https://oauth2.googleapis.com")
    assert configured(*vertex, stdin=key)["provider"] == "google-vertex"


def test_a_secret_needs_the_key_that_encrypts_it(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TURN_WORKER_SECRET_KEY")
    assert "Set TURN_WORKER_SECRET_KEY" in refused("--secret", "key", stdin="sk-123")
    monkeypatch.setenv("TURN_WORKER_SECRET_KEY", "too-short")
    assert "no Fernet key" in refused("--secret", "key", stdin="sk-123")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--base-url", "ftp://llm.test"), "base_url: A base URL begins with http:// or https://"),
        (("--parameter", "model=x"), "parameters: model stand beside `parameters`"),
    ],
)
def test_what_no_turn_could_run_with_is_refused(
    refused: Callable[..., str], arguments: tuple[str, ...], complaint: str
) -> None:
    message = refused(*arguments)
    assert "These LLM defaults cannot be used:" in message
    assert complaint in message


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--max-tokens", "0"),
        ("--temperature", "-1"),
        ("--parameter", "seed"),
        ("--unset", "colour"),
        ("--secret", "key"),
        ("--secret", "key", "--from-env", "NOT_SET_ANYWHERE"),
        ("--model", "x", "--from-env", "PATH"),
    ],
)
def test_an_incomplete_or_impossible_change_is_a_wrong_use(
    command: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    assert command("config", "set", "--org", "acme", *arguments, stdin="").exit_code == 2


@pytest.mark.parametrize("arguments", [("show",), ("set", "--model", "x")])
def test_an_organization_that_is_not_there_is_an_error(
    command: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    result = command("config", arguments[0], "--org", "Nobody", *arguments[1:])
    assert result.exit_code == 1
    assert "no organization 'Nobody'" in result.stderr
