from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.workflow.organization_settings import (
    InvalidOrganizationSettings,
    Limits,
    OrganizationSettings,
    setting_names,
    settings_described,
)

if TYPE_CHECKING:
    from pydantic import JsonValue


def test_an_organization_that_set_nothing_has_no_limits_and_stores_nothing() -> None:
    settings = OrganizationSettings()
    assert settings.limits == Limits()
    assert settings.document() == {}
    assert OrganizationSettings.model_validate({}) == settings


def test_settings_are_changed_by_their_dotted_names_and_the_others_stay() -> None:
    settings = OrganizationSettings().changed({"limits.max_running_turns": 5, "retention.sessions_days": 30})
    settings = settings.changed({"limits.tokens_per_day": 1_000_000})
    assert settings.document() == {
        "limits": {"max_running_turns": 5, "tokens_per_day": 1_000_000},
        "retention": {"sessions_days": 30},
    }
    assert OrganizationSettings.model_validate(settings.document()) == settings


def test_null_returns_a_setting_to_its_default() -> None:
    settings = OrganizationSettings().changed({"limits.max_running_turns": 5})
    assert settings.changed({"limits.max_running_turns": None}) == OrganizationSettings()


@pytest.mark.parametrize("hosts", [["a.lan", "b.lan"], "a.lan, b.lan"])
def test_hosts_may_be_given_as_a_list_or_with_commas(hosts: JsonValue) -> None:
    assert OrganizationSettings().changed({"allowed_hosts": hosts}).allowed_hosts == ("a.lan", "b.lan")


def test_every_wrong_name_and_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(InvalidOrganizationSettings) as refused:
        OrganizationSettings().changed(
            {"limits.max_runing_turns": 5, "limits": {}, "limits.max_pending_turns": 0, "retention.events_days": "soon"}
        )
    message = str(refused.value)
    assert "limits.max_runing_turns: there is no such setting. There are limits.max_running_turns, " in message
    assert "- limits: there is no such setting" in message
    assert "- limits.max_pending_turns: Input should be greater than or equal to 1" in message
    assert "- retention.events_days: Input should be a valid integer" in message


def test_every_setting_says_what_it_is() -> None:
    described = dict(settings_described())
    assert tuple(described) == setting_names()
    assert all(text.endswith(".") for text in described.values())
