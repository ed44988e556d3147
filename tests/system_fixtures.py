"""Fixtures of the whole system: one for all tests that need it, whole at the beginning of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system import Caller, System, calling
from worker.embedded.postgres import EmbeddedPostgres
from worker.storage.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def shared_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system on servers of its own. Everything that is about waiting is shorter than by default."""
    folder = tmp_path_factory.mktemp("system")
    with EmbeddedPostgres(folder / "postgres") as postgres:
        migrate(postgres.url)
        with System(
            folder / "redis",
            postgres,
            postgres.url,
            lease_seconds=3,
            lease_renewal_seconds=0.5,
            ring_again_seconds=2,
            retry_base_seconds=0.05,
            max_provider_failures=3,
            shutdown_grace_seconds=2,
        ) as system:
            yield system


@pytest.fixture
def system(shared_system: System) -> Iterator[System]:
    """The shared system, whole. What its processes do not foresee fails the test."""
    shared_system.heal()
    before = {process: len(process.log.lines()) for process in shared_system.processes}
    yield shared_system
    for process in shared_system.processes:
        assert process.surprises(before.get(process, 0)) == []


@pytest.fixture
async def caller(system: System) -> AsyncIterator[Caller]:
    """A new organization that calls the shared system."""
    async with calling(system) as caller:
        yield caller
