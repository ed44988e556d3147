"""When a turn is finished: nothing outstanding, and a flush that brought nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.engine.outstanding import Outstanding
from worker.engine.pipeline import finished

if TYPE_CHECKING:
    from collections.abc import Callable


class Pipeline:
    """A pipeline in which each flush brings up something else; whether it could be flushed is its answer."""

    def __init__(self, *brought: Callable[[], bool]) -> None:
        self._brought = list(brought)
        self.flushes = 0

    async def flush_pipeline(self) -> bool:
        self.flushes += 1
        return self._brought.pop(0)() if self._brought else True


async def test_one_flush_that_brings_nothing_confirms_the_end() -> None:
    pipeline = Pipeline()

    await finished(pipeline, Outstanding())

    assert pipeline.flushes == 1


async def test_work_that_a_flush_brings_is_waited_for_and_then_confirmed_by_another_flush() -> None:
    outstanding = Outstanding()

    def new_work() -> bool:
        outstanding.begin("a tool call")
        outstanding.end("a tool call")
        return True

    pipeline = Pipeline(new_work, new_work)

    await finished(pipeline, outstanding)

    assert pipeline.flushes == 3


async def test_a_flush_that_could_not_be_confirmed_is_made_again() -> None:
    pipeline = Pipeline(lambda: False)

    await finished(pipeline, Outstanding())

    assert pipeline.flushes == 2


async def test_a_failure_that_a_flush_brings_is_raised() -> None:
    outstanding = Outstanding()

    def failure() -> bool:
        outstanding.fail(RuntimeError("broke"))
        return True

    with pytest.raises(RuntimeError, match="broke"):
        await finished(Pipeline(failure), outstanding)
