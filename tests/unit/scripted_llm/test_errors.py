from __future__ import annotations

import pickle

from worker.embedded.scripted_llm.errors import ApiError
from worker.errors import TurnWorkerError


def test_an_error_reply_survives_pickling_with_all_its_parts() -> None:
    error = ApiError(429, "Slow down", "rate_limit_error", param="messages", error_code="quota", retry_after=3)

    copy = pickle.loads(pickle.dumps(error))

    assert isinstance(copy, TurnWorkerError)
    assert vars(copy) == vars(error)
    assert str(copy) == "429: Slow down"
