"""The failures of a turn."""

from __future__ import annotations

import pickle

import pytest

from worker.engine import failures
from worker.engine.failures import PermanentFailure, TransientFailure, TurnFailed, TurnTimeout

KINDS = [
    kind
    for kind in vars(failures).values()
    if isinstance(kind, type) and issubclass(kind, TurnFailed) and "code" in vars(kind) and kind is not TurnTimeout
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_failure_survives_pickling_with_its_message(kind: type[TurnFailed]) -> None:
    copy = pickle.loads(pickle.dumps(kind("It broke.")))

    assert (type(copy), str(copy), copy.events) == (kind, "It broke.", ())


def test_every_failure_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_whether_to_try_again_is_in_the_type() -> None:
    for kind in KINDS:
        assert kind.retryable is issubclass(kind, TransientFailure)
        assert not (issubclass(kind, PermanentFailure) and issubclass(kind, TransientFailure))


def test_a_timeout_names_its_limit_and_what_it_waited_for() -> None:
    timeout = pickle.loads(pickle.dumps(TurnTimeout(60.0, ("an LLM response", "the tool call book (a)"))))

    assert "60 s while waiting for: an LLM response, the tool call book (a)." in str(timeout)
    assert "event loop was too busy" in str(TurnTimeout(1.0, ()))
