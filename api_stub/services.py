"""What every request of the process shares: the database, the channel, the doorbell. Opened and closed with the app."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Self

from fastapi import Depends, Request

from worker.channel.publisher import Publisher
from worker.channel.subscriber import Subscriber
from worker.channel.text_reader import TextReader
from worker.queue.doorbell import CeleryDoorbell
from worker.storage.database import Database
from worker.storage.migrate import SchemaRevisions, schema_revisions
from worker.storage.secrets import Vault
from worker.telemetry.telemetry import Telemetry
from worker.turns.dispatch import Dispatch
from worker.turns.organization_traces import OrganizationTraces
from worker.turns.queue_watch import QueueWatch
from worker.workflow.prices import load_prices

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from worker.settings import Settings
    from worker.turns.dispatch import Doorbell
    from worker.workflow.prices import PriceList


# Callers are told that PostgreSQL does not answer before they have given up themselves.
_PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Services:
    """The servers behind the API. None of them needs to be up when the process starts; each recovers by itself.

    Attributes:
        vault: Encrypts what is stored as a secret.
        schema_revisions: The revisions of the database's schema that this program knows.
    """

    settings: Settings
    database: Database
    dispatch: Dispatch
    subscriber: Subscriber
    texts: TextReader
    vault: Vault
    schema_revisions: SchemaRevisions
    telemetry: Telemetry
    traces: OrganizationTraces
    queue_watch: QueueWatch
    prices: PriceList

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, doorbell: Doorbell | None = None) -> AsyncGenerator[Self]:
        """Connect to what can be reached, and at the end finish what was begun in the background.

        Args:
            doorbell: tells workers of turns that can be claimed, in place of Celery's.

        Raises:
            InvalidPrices: when the file of prices cannot be used.
        """
        if settings.database_url is None or settings.redis_url is None:
            raise AssertionError("create_app checks that both are set")
        redis_url = settings.redis_url.get_secret_value()
        prices = load_prices(settings.prices_file)
        async with AsyncExitStack() as stack:
            database = Database(
                settings.database_url.get_secret_value(),
                pool_size=settings.database_pool_size,
                patience_seconds=_PATIENCE_SECONDS,
            )
            stack.push_async_callback(database.close)
            publisher = Publisher(redis_url)
            stack.push_async_callback(publisher.close)
            subscriber = Subscriber(redis_url)
            stack.push_async_callback(subscriber.close)
            texts = TextReader(redis_url)
            stack.push_async_callback(texts.close)
            if doorbell is None:
                doorbell = stack.enter_context(closing(CeleryDoorbell(redis_url)))
            telemetry = Telemetry.start(settings, scraped=True)
            stack.push_async_callback(asyncio.to_thread, telemetry.close)
            dispatch = Dispatch(database, publisher, doorbell, telemetry)
            stack.push_async_callback(dispatch.drain)
            traces = OrganizationTraces(settings, database, telemetry)
            stack.push_async_callback(traces.close)
            queue_watch = QueueWatch(database, telemetry)
            watching = asyncio.create_task(queue_watch.run())
            stack.push_async_callback(asyncio.wait, [watching])
            stack.callback(watching.cancel)
            await subscriber.start()
            revisions = await asyncio.to_thread(schema_revisions)
            vault = Vault(settings.secret_key)
            yield cls(
                settings,
                database,
                dispatch,
                subscriber,
                texts,
                vault,
                revisions,
                telemetry,
                traces,
                queue_watch,
                prices,
            )


# A coroutine, though it awaits nothing: FastAPI would run a plain function in a thread, for every request.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Shared = Annotated[Services, Depends(_services)]
"""As a parameter of a route: the process's services."""
