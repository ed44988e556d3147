from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.workflow.model_configuration import (
    ModelChoice,
    ModelConfiguration,
    ModelOverrides,
    SecretReference,
    check_tenant_configuration,
    configuration_problems,
    effective_configuration,
    fallback_configuration,
)
from worker.workflow.web_address import NO_HOSTS, AllowedHosts

KEY = SecretReference(secret="main-key")
DEFAULTS = ModelConfiguration(
    provider="anthropic",
    model="claude",
    base_url="https://gateway.example/anthropic",
    api_key=KEY,
    max_tokens=1000,
    temperature=0.5,
    parameters={"top_p": 0.9, "top_k": 5},
)


def effective(**overrides: Any) -> ModelConfiguration:
    return effective_configuration(DEFAULTS, ModelOverrides(**overrides))


def test_without_overrides_the_defaults_apply() -> None:
    assert effective_configuration(DEFAULTS, None) == DEFAULTS
    assert effective() == DEFAULTS


def test_without_defaults_the_provider_is_anthropic_and_nothing_else_is_set() -> None:
    assert effective_configuration(None, None) == ModelConfiguration(provider="anthropic")


def test_each_field_is_overridden_on_its_own() -> None:
    assert effective(model="small") == DEFAULTS.model_copy(update={"model": "small"})
    assert effective(temperature=0.0, max_tokens=5) == DEFAULTS.model_copy(update={"temperature": 0.0, "max_tokens": 5})


def test_parameters_are_overridden_key_by_key() -> None:
    assert effective(parameters={"top_k": 1, "seed": 7}).parameters == {"top_p": 0.9, "top_k": 1, "seed": 7}


def test_overriding_the_base_url_drops_the_inherited_key() -> None:
    changed = effective(base_url="https://elsewhere.example")
    assert changed.api_key is None
    assert changed.model == "claude"


def test_overriding_the_provider_drops_the_inherited_key_and_what_only_the_old_one_understands() -> None:
    assert effective(provider="openai") == ModelConfiguration(provider="openai", max_tokens=1000, temperature=0.5)


def test_a_key_of_its_own_stays_with_an_overridden_provider_or_base_url() -> None:
    own = SecretReference(secret="other")
    assert effective(provider="openai", api_key=own).api_key == own
    assert effective(base_url="https://elsewhere.example", api_key=own).api_key == own


def test_naming_the_provider_and_base_url_that_apply_anyway_overrides_nothing() -> None:
    assert effective(provider="anthropic", base_url=DEFAULTS.base_url) == DEFAULTS


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "provider": st.sampled_from(["anthropic", "openai", "local"]),
            "base_url": st.sampled_from([DEFAULTS.base_url, "https://a.example", "http://b.example"]),
            "model": st.text(min_size=1),
            "max_tokens": st.integers(min_value=1),
        },
    )
)
def test_an_inherited_key_only_ever_goes_to_the_provider_and_address_it_was_given_for(
    overrides: dict[str, Any],
) -> None:
    result = effective(**overrides)
    if result.api_key is not None:
        assert (result.provider, result.base_url) == (DEFAULTS.provider, DEFAULTS.base_url)
    assert ModelConfiguration.model_validate(result.model_dump()) == result


@pytest.mark.parametrize("model", [ModelConfiguration, ModelOverrides])
def test_a_plaintext_key_is_refused_and_never_repeated(model: type[ModelOverrides]) -> None:
    with pytest.raises(ValidationError, match="turn-worker config set") as caught:
        model.model_validate({"api_key": "sk-plain-42"})
    assert "sk-plain-42" not in str(caught.value)


@pytest.mark.parametrize("reference", [{}, {"secret": "a", "environment": "B"}, {"secret": ""}, {"key": "a"}])
def test_a_secret_reference_names_exactly_one_place(reference: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ModelConfiguration.model_validate({"api_key": reference})


def test_a_key_put_in_the_wrong_place_of_a_reference_is_never_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        SecretReference.model_validate({"secret": "a", "key": "sk-plain-42"})
    assert "sk-plain-42" not in str(caught.value)


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_a_temperature_that_is_no_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValidationError):
        ModelOverrides(temperature=temperature)


@pytest.mark.parametrize("url", ["ftp://h", "h", "//h", "https://", "https://[", "file:///etc/passwd", ""])
def test_a_base_url_must_be_http_or_https(url: str) -> None:
    with pytest.raises(ValidationError, match="http://"):
        ModelConfiguration.model_validate({"base_url": url})


@pytest.mark.parametrize("name", ["api_key", "base_url", "model", "provider", "max_tokens"])
def test_parameters_cannot_smuggle_in_a_field(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        ModelOverrides.model_validate({"parameters": {name: "x"}})


def test_an_unknown_field_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ValidationError, match="temprature"):
        ModelOverrides.model_validate({"temprature": 1})


def test_a_tenant_may_refer_to_its_organizations_secrets() -> None:
    assert check_tenant_configuration(DEFAULTS) == ()
    assert check_tenant_configuration(ModelOverrides()) == ()


def test_a_tenant_may_not_refer_to_the_operators_environment() -> None:
    configuration = ModelConfiguration(api_key=SecretReference(environment="ANTHROPIC_API_KEY"))
    (problem,) = check_tenant_configuration(configuration)
    assert problem.field == "api_key"
    assert "operator" in problem.message


def test_a_tenants_base_url_may_not_carry_a_password() -> None:
    (problem,) = check_tenant_configuration(ModelOverrides(base_url="https://user:secret@h"))
    assert problem.field == "base_url"
    assert "secret" not in problem.message


def test_a_tenants_base_url_may_not_show_a_private_host_unless_it_is_allowed() -> None:
    configuration = ModelOverrides(base_url="http://localhost:11434/v1")
    (problem,) = check_tenant_configuration(configuration, NO_HOSTS)
    assert problem.field == "base_url"
    assert "allowed hosts" in problem.message
    assert check_tenant_configuration(configuration, AllowedHosts.of(["localhost:11434"])) == ()
    assert check_tenant_configuration(ModelOverrides(base_url="https://llm.example/v1"), NO_HOSTS) == ()


def test_a_fallback_is_as_the_model_but_for_what_it_says() -> None:
    configuration = ModelConfiguration(
        model="first", api_key=SecretReference(secret="key"), fallback=ModelChoice(model="second")
    )

    fallback = fallback_configuration(configuration)

    assert fallback == ModelConfiguration(model="second", api_key=SecretReference(secret="key"))


def test_a_fallback_at_another_provider_does_not_get_the_key() -> None:
    configuration = ModelConfiguration(
        model="first", api_key=SecretReference(secret="key"), fallback=ModelChoice(provider="openai", model="second")
    )

    fallback = fallback_configuration(configuration)

    assert fallback == ModelConfiguration(provider="openai", model="second")


def test_an_inherited_fallback_does_not_follow_to_another_provider() -> None:
    defaults = ModelConfiguration(model="first", fallback=ModelChoice(model="second"))

    assert effective_configuration(defaults, ModelOverrides(provider="openai", model="m")).fallback is None
    assert effective_configuration(defaults, ModelOverrides(model="m")).fallback == ModelChoice(model="second")


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        (ModelConfiguration(provider="nobody"), "provider"),
        (ModelConfiguration(provider="openai"), "model"),
        (ModelConfiguration(provider="ollama", model="m"), "base_url"),
        (ModelConfiguration(provider="groq", model="m"), "api_key"),
        (ModelConfiguration(provider="google-vertex", model="m", base_url="https://a.example"), "api_key"),
        (ModelConfiguration(provider="sarvam", model="gpt-5", api_key=KEY), "model"),
        (ModelConfiguration(provider="aws", model="m", base_url="https://bedrock.example"), "api_key"),
        (ModelConfiguration(provider="aws", model="m", api_key=SecretReference(secret="key")), "base_url"),
        (ModelConfiguration(fallback=ModelChoice(provider="openai")), "fallback.model"),
    ],
)
def test_what_could_not_be_called_is_found_before_it_is(configuration: ModelConfiguration, field: str) -> None:
    assert [problem.field for problem in configuration_problems(configuration)] == [field]


def test_what_a_tenant_may_not_configure_may_not_stand_in_its_fallback_either() -> None:
    overrides = ModelOverrides(fallback=ModelChoice(api_key=SecretReference(environment="HOME")))

    assert [problem.field for problem in check_tenant_configuration(overrides)] == ["fallback.api_key"]
