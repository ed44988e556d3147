from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.conversation.checkpoint import (
    Checkpoint,
    MalformedCheckpoint,
    UnknownCheckpointVersion,
    normalize_checkpoint,
)

FULL: dict[str, Any] = {
    "version": 1,
    "anchor_turn_id": "t1",
    "current_node_id": "n1",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    "gathered_context": {"city": "Bern"},
    "tool_state": {"mcp": {"session": 1}},
}
EMPTY: dict[str, Any] = {
    "version": 1,
    "anchor_turn_id": None,
    "current_node_id": None,
    "messages": [],
    "gathered_context": {},
    "tool_state": {},
}


@pytest.mark.parametrize("value", [None, {}, dict.fromkeys(EMPTY), EMPTY])
def test_a_missing_or_empty_checkpoint_becomes_the_six_fields_with_empty_defaults(value: object) -> None:
    assert normalize_checkpoint(value).to_json() == EMPTY


@given(st.sets(st.sampled_from(sorted(FULL))))
def test_a_partial_checkpoint_keeps_what_it_has_and_gets_defaults_for_the_rest(present: set[str]) -> None:
    partial = {name: FULL[name] for name in present}
    assert normalize_checkpoint(partial).to_json() == {**EMPTY, **partial}


def test_unknown_extra_fields_survive() -> None:
    stored = {**FULL, "future": {"kept": [1, None]}, "extras": "by any name"}
    checkpoint = normalize_checkpoint(stored)
    assert checkpoint.to_json() == stored
    assert normalize_checkpoint(checkpoint.to_json()) == checkpoint


@pytest.mark.parametrize("version", [0, 2, "1", "x", True, [], {}])
def test_an_unknown_version_is_an_error_not_a_guess(version: object) -> None:
    with pytest.raises(UnknownCheckpointVersion, match="version 1") as caught:
        normalize_checkpoint({**FULL, "version": version})
    assert caught.value.code == "unknown_checkpoint_version"
    assert pickle.loads(pickle.dumps(caught.value)).version == version


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("text", "it"),
        ([], "it"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hello"]}, "messages"),
        ({"gathered_context": []}, "gathered_context"),
        ({"tool_state": "x"}, "tool_state"),
        ({"current_node_id": 5}, "current_node_id"),
        ({"anchor_turn_id": {}}, "anchor_turn_id"),
    ],
)
def test_a_field_of_the_wrong_shape_is_an_error_not_a_guess(value: object, place: str) -> None:
    with pytest.raises(MalformedCheckpoint) as caught:
        normalize_checkpoint(value)
    assert caught.value.place == place
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_providers_own_content_survives_the_round_trip_losslessly() -> None:
    thinking = {"type": "thinking", "thinking": "…", "signature": "abc=="}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    stored = {**FULL, "messages": [{"role": "assistant", "content": [thinking]}, {"role": "user", "content": [image]}]}
    assert json.loads(json.dumps(normalize_checkpoint(stored).to_json())) == stored


def test_a_new_checkpoint_is_the_normalised_empty_one() -> None:
    assert Checkpoint() == normalize_checkpoint(None)
