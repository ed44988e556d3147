from __future__ import annotations

import pytest
from pydantic import SecretStr

from worker.embedded.llm import LLMUnavailable, choose_llm
from worker.settings import Settings

KEY = SecretStr("sk-ant-0123456789")


def settings(**given: object) -> Settings:
    nothing: dict[str, object] = {
        "anthropic_api_key": None,
        "anthropic_base_url": None,
        "database_url": None,
        "llm": None,
    }
    return Settings.model_validate(nothing | given)


def test_without_a_key_the_scripted_llm_speaks_and_with_one_anthropics() -> None:
    assert choose_llm(settings()) == "scripted"
    assert choose_llm(settings(anthropic_api_key=KEY)) == "anthropic"
    assert choose_llm(settings(anthropic_base_url="http://gateway.test")) == "anthropic"


def test_a_wish_goes_before_the_setting_and_the_setting_before_the_key() -> None:
    assert choose_llm(settings(llm="scripted", anthropic_api_key=KEY)) == "scripted"
    assert choose_llm(settings(llm="scripted", anthropic_api_key=KEY), "anthropic") == "anthropic"


def test_on_a_database_of_ones_own_the_stand_in_speaks_only_where_it_is_asked_for() -> None:
    others = {"database_url": SecretStr("postgresql://db.example/turns")}
    with pytest.raises(LLMUnavailable, match=r"every organization .* Set ANTHROPIC_API_KEY, or .* --llm scripted"):
        choose_llm(settings(**others))
    assert choose_llm(settings(**others), "scripted") == "scripted"
    assert choose_llm(settings(**others, llm="scripted")) == "scripted"
    assert choose_llm(settings(**others, anthropic_api_key=KEY)) == "anthropic"


def test_anthropics_llm_without_a_key_says_what_to_do() -> None:
    with pytest.raises(LLMUnavailable, match=r"Set ANTHROPIC_API_KEY, or .* --llm scripted .* --llm local"):
        choose_llm(settings(), "anthropic")


def test_the_local_llm_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.embedded.llm.find_spec", lambda _: None)
    with pytest.raises(LLMUnavailable, match="make local-llm"):
        choose_llm(settings(), "local")
