"""The embeddings protocol through the real SDK."""

from __future__ import annotations

import math

import openai
import pytest

from worker.embedded.scripted_llm import Script, ScriptedLLM
from worker.embedded.scripted_llm.embeddings_api import embedding


def nearness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_are_the_same_in_either_encoding_and_of_length_one() -> None:
    with ScriptedLLM() as llm, openai.OpenAI(api_key="any", base_url=f"{llm.base_url}/v1") as client:
        packed = client.embeddings.create(model="m", input=["Opening hours", "Prices"])
        plain = client.embeddings.create(model="m", input=["Opening hours", "Prices"], encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*other.embedding) == pytest.approx(1.0)


def test_texts_that_share_words_are_nearer_than_others() -> None:
    asked = embedding("When are the opening hours?")
    assert nearness(asked, embedding("Our opening hours")) > nearness(asked, embedding("A visit costs 80 euros"))


def test_rules_apply_to_embeddings_too() -> None:
    script = Script.model_validate({"rules": [{"when": {"model": "m"}, "error": {"status": 500}}]})
    with (
        ScriptedLLM(script) as llm,
        openai.OpenAI(api_key="any", base_url=f"{llm.base_url}/v1", max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError):
            client.embeddings.create(model="m", input="x")
        assert client.embeddings.create(model="other", input="x").usage.prompt_tokens > 0


@pytest.mark.parametrize("texts", [[], ["a", ""], [1]])
def test_what_the_real_api_refuses_is_refused(texts: list[str]) -> None:
    with ScriptedLLM() as llm, openai.OpenAI(api_key="any", base_url=f"{llm.base_url}/v1") as client:
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="m", input=texts)
        assert llm.requests[0].refused
