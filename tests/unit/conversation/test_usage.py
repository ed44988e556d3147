from __future__ import annotations

import json
import pickle
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.conversation.usage import LLMUsage, MalformedUsage, Usage, merge, usage_key

keys = st.sampled_from(["AnthropicLLMService#0|||claude", "OpenAILLMService#0|||gpt", "Extraction|||claude"])
tokens = st.integers(min_value=0, max_value=10**9)
amounts = st.integers(min_value=0, max_value=2**40).map(lambda n: n / 1024)  # sums of these are exact
llm_usages = st.builds(
    LLMUsage, tokens, tokens, tokens, tokens, tokens, st.dictionaries(st.sampled_from(["reasoning_tokens"]), tokens)
)
sections = st.dictionaries(keys, amounts)
usages = st.builds(
    Usage,
    llm=st.dictionaries(keys, llm_usages),
    tts=sections,
    stt=sections,
    call_duration_seconds=amounts,
    extras=st.fixed_dictionaries({}, optional={"embedding": sections, "rerank_calls": amounts}),
)


def leaves(value: Any) -> float:
    if isinstance(value, dict):
        return sum(leaves(item) for item in value.values())
    assert isinstance(value, (int, float))
    return value


def test_a_key_names_processor_and_model() -> None:
    assert usage_key("AnthropicLLMService#0", "claude") == "AnthropicLLMService#0|||claude"


def test_merging_sums_each_count_per_key() -> None:
    a = Usage(llm={"p|||m": LLMUsage(1, 2, 3, 4, 5)}, tts={"t": 1.5}, call_duration_seconds=2.0)
    b = Usage(llm={"p|||m": LLMUsage(10, 20, 30, 40, 50), "q|||n": LLMUsage(7)}, stt={"s": 0.5})
    assert merge(a, b) == Usage(
        llm={"p|||m": LLMUsage(11, 22, 33, 44, 55), "q|||n": LLMUsage(7)},
        tts={"t": 1.5},
        stt={"s": 0.5},
        call_duration_seconds=2.0,
    )


@given(usages)
def test_merging_with_nothing_changes_nothing(usage: Usage) -> None:
    assert merge(usage, Usage()) == merge(Usage(), usage) == usage


@given(st.lists(usages, min_size=3, max_size=3))
def test_the_order_and_grouping_of_merging_make_no_difference(three: list[Usage]) -> None:
    a, b, c = three
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert len({json.dumps(reduce(merge, order).to_json(), sort_keys=True) for order in permutations(three)}) == 1


@given(usages, usages)
def test_merging_loses_nothing(a: Usage, b: Usage) -> None:
    assert leaves(merge(a, b).to_json()) == leaves(a.to_json()) + leaves(b.to_json())


@given(usages)
def test_usage_survives_the_round_trip_through_json(usage: Usage) -> None:
    assert Usage.from_json(json.loads(json.dumps(usage.to_json()))) == usage


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"llm": None, "tts": None, "stt": None, "call_duration_seconds": None, "future": None},
        {"llm": {}, "stt": {}},
    ],
)
def test_missing_and_null_sections_are_empty(value: dict[str, Any] | None) -> None:
    assert Usage.from_json(value) == Usage()


def test_missing_and_null_counts_are_zero() -> None:
    read = Usage.from_json({"llm": {"k": {"prompt_tokens": 5, "cache_read_input_tokens": None}, "n": None}})
    assert read.llm == {"k": LLMUsage(prompt_tokens=5), "n": LLMUsage()}


def test_reading_leaves_what_it_was_given_alone() -> None:
    stored: dict[str, Any] = {"llm": {"k": {"prompt_tokens": 5}}, "tts": {"t": 1}, "future": 2}
    copy = json.loads(json.dumps(stored))
    Usage.from_json(stored)
    assert stored == copy


def test_counts_and_sections_of_a_later_release_are_summed_and_kept() -> None:
    stored: dict[str, Any] = {"llm": {"k": {"reasoning_tokens": 3}}, "embedding": {"e": 2.5}, "rerank_calls": 1}
    twice = merge(Usage.from_json(stored), Usage.from_json(stored)).to_json()
    assert twice["embedding"] == {"e": 5.0}
    assert twice["rerank_calls"] == 2
    assert Usage.from_json(twice).llm["k"].extras == {"reasoning_tokens": 6}


@pytest.mark.parametrize(
    "value",
    [
        {"llm": []},
        {"llm": {"k": 5}},
        {"llm": {"k": {"prompt_tokens": "5"}}},
        {"llm": {"k": {"prompt_tokens": 1.5}}},
        {"tts": {"t": True}},
        {"call_duration_seconds": {}},
        {"future": "text"},
    ],
)
def test_something_else_in_the_place_of_an_amount_is_an_error_not_a_guess(value: dict[str, Any]) -> None:
    with pytest.raises(MalformedUsage) as caught:
        Usage.from_json(value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_sections_of_different_shapes_are_not_merged_by_losing_one() -> None:
    with pytest.raises(MalformedUsage, match="alike"):
        merge(Usage(extras={"x": 1.0}), Usage(extras={"x": {"k": 1.0}}))
