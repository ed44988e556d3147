"""The catalogue of providers: what each needs, said before it is missed."""

from __future__ import annotations

import pytest

from worker.workflow.llm_providers import LLM_PROVIDERS, LLMProvider, provider_problem


@pytest.mark.parametrize("package", ["google.not_installed", "not_installed.at_all"])
def test_an_extra_that_is_not_installed_is_one_sentence_with_the_command_that_installs_it(package: str) -> None:
    known = {"acme": LLMProvider(base_url="https://a.example", service="a:A", extra="acme", package=package)}

    assert provider_problem("acme", known) == (
        "The provider 'acme' needs a package that is not installed: pip install 'pipecat-turn-worker[acme]'."
    )


@pytest.mark.parametrize("name", LLM_PROVIDERS)
def test_every_provider_can_be_used_where_all_extras_are_installed(name: str) -> None:
    assert provider_problem(name) is None


def test_a_provider_with_an_extra_names_the_package_to_tell_it_by() -> None:
    assert all((known.extra is None) == (known.package is None) for known in LLM_PROVIDERS.values())


def test_a_provider_without_one_address_for_all_has_an_example_of_one() -> None:
    assert all((known.base_url is None) == (known.such_as is not None) for known in LLM_PROVIDERS.values())
