from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.conversation.history import ContextDelta, context_delta, fold

if TYPE_CHECKING:
    from worker.conversation.history import Message

scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, -1.5]) | st.text(max_size=3)
contents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
)
messages = st.lists(st.dictionaries(st.sampled_from(["role", "content"]), contents), max_size=5)


def said(*texts: str) -> list[Message]:
    return [{"role": "user", "content": text} for text in texts]


def test_a_turn_that_only_added_messages_stores_only_those() -> None:
    assert context_delta(said("a", "b"), said("a", "b", "c")) == ContextDelta(replaces=False, messages=said("c"))


def test_a_turn_that_added_nothing_stores_nothing() -> None:
    assert context_delta(said("a"), said("a")) == ContextDelta(replaces=False, messages=[])


@pytest.mark.parametrize(
    "after", [said("x", "b", "c"), said("a"), [], said("b", "a")], ids=["changed", "shortened", "emptied", "reordered"]
)
def test_a_turn_that_changed_the_stored_prefix_in_any_way_stores_the_whole_context(after: list[Message]) -> None:
    assert context_delta(said("a", "b"), after) == ContextDelta(replaces=True, messages=after)


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0, False), ([1], [True]), ({"k": 0}, {"k": 0.0})])
def test_a_change_of_json_type_alone_is_a_change(old: object, new: object) -> None:
    before: list[Message] = json.loads(json.dumps([{"content": old}]))
    after: list[Message] = json.loads(json.dumps([{"content": new}]))
    assert context_delta(before, after).replaces


@given(before=messages, added=messages)
def test_what_follows_an_unchanged_prefix_is_exactly_what_is_stored(
    before: list[Message], added: list[Message]
) -> None:
    copy: list[Message] = json.loads(json.dumps(before))
    assert context_delta(before, copy + added) == ContextDelta(replaces=False, messages=added)


@given(before=messages, after=messages)
def test_folding_a_delta_onto_what_was_before_gives_what_came_after(
    before: list[Message], after: list[Message]
) -> None:
    rebuilt = fold(before, [context_delta(before, after)])
    assert json.dumps(rebuilt, sort_keys=True) == json.dumps(after, sort_keys=True)


@given(st.lists(messages, min_size=1, max_size=6))
def test_a_branch_is_rebuilt_from_its_turns_deltas_alone(contexts: list[list[Message]]) -> None:
    deltas = [context_delta(before, after) for before, after in zip([[], *contexts], contexts, strict=False)]
    assert json.dumps(fold([], deltas)) == json.dumps(contexts[-1])


@given(earlier=st.lists(messages, max_size=3), whole=messages, later=messages)
def test_rebuilding_may_start_at_a_turn_that_replaced_the_context(
    earlier: list[list[Message]], whole: list[Message], later: list[Message]
) -> None:
    from_there = [ContextDelta(replaces=True, messages=whole), ContextDelta(replaces=False, messages=later)]
    before = [ContextDelta(replaces=False, messages=added) for added in earlier]
    assert fold([], [*before, *from_there]) == fold(said("anything"), from_there)


def test_folding_leaves_what_it_was_given_alone() -> None:
    base, delta = said("a"), ContextDelta(replaces=True, messages=said("b"))
    rebuilt = fold(base, [delta, ContextDelta(replaces=False, messages=said("c"))])
    assert rebuilt == said("b", "c")
    assert (base, delta.messages) == (said("a"), said("b"))
