"""Fixtures of the API, for the tests of the API and of its client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from api_stub.app import create_app
from tests.api import Bell, Tenant, serving, tenant
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from api_stub.server import ApiServer
    from worker.storage.database import Database


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    """Settings that name this test's servers."""
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        secret_key=SecretStr(Fernet.generate_key().decode()),
        port=0,
        database_pool_size=4,
    )


@pytest.fixture
def bell() -> Bell:
    """The doorbell of this test's API."""
    return Bell()


@pytest.fixture
async def app(settings: Settings, bell: Bell) -> AsyncIterator[FastAPI]:
    """The API, started, without a socket."""
    app = create_app(settings, bell)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def api(app: FastAPI, database: Database) -> AsyncIterator[Tenant]:
    """An organization that calls the API."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    caller = await tenant(database, app, transport, "http://api")
    async with caller.http:
        yield caller


@pytest.fixture
async def other(app: FastAPI, database: Database) -> AsyncIterator[Tenant]:
    """Another organization that calls the same API."""
    caller = await tenant(database, app, httpx.ASGITransport(app), "http://api", "Other")
    async with caller.http:
        yield caller


@pytest.fixture
async def server(settings: Settings, bell: Bell) -> AsyncIterator[ApiServer]:
    """The API on a socket."""
    async with serving(settings, bell) as server:
        yield server


@pytest.fixture
async def served(server: ApiServer, database: Database) -> AsyncIterator[Tenant]:
    """An organization that calls the API over its socket."""
    caller = await tenant(database, server.app, None, server.url)
    async with caller.http:
        yield caller
