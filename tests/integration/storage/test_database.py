"""Connections to a server that does not answer: given up after a while, and replaced."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, make_url, text
from sqlalchemy.pool import Pool

from tests.proxy import CuttingProxy
from worker.storage.database import Database, DatabaseUnavailable, libpq_url

ONE = text("SELECT 1")


async def ask(database: Database) -> object:
    async with database.statement() as connection:
        return await connection.scalar(ONE)


async def test_a_server_that_says_nothing_is_given_up_and_costs_no_connection_of_the_pool(database_url: str) -> None:
    async with CuttingProxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=2, patience_seconds=0.2)
        assert list(await asyncio.gather(ask(database), ask(database))) == [1, 1]
        proxy.flowing.clear()
        results = await asyncio.gather(*(ask(database) for _ in range(4)), return_exceptions=True)
        assert {type(result) for result in results} == {DatabaseUnavailable}
        assert "no answer within 0.2 s" in str(results[0])
        proxy.flowing.set()
        assert list(await asyncio.gather(ask(database), ask(database))) == [1, 1]
        await database.close()


async def test_a_connection_that_breaks_costs_no_connection_of_the_pool(database_url: str) -> None:
    async with CuttingProxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=1)
        for _ in range(3):
            proxy.answers_to_lose = 0
            assert await ask(database) == 1
            proxy.answers_to_lose = 1
            with pytest.raises(DatabaseUnavailable):
                await ask(database)
        proxy.answers_to_lose = 0
        assert await ask(database) == 1
        await database.close()


async def test_a_time_limit_of_the_work_itself_is_not_mistaken_for_the_servers(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with database.statement(), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_when_all_idle_connections_have_died_the_next_statement_gets_a_new_one(database_url: str) -> None:
    database = Database(database_url, pool_size=4)
    async with database.statement() as first, database.statement() as second, database.statement() as third:
        for connection in (first, second, third):
            await connection.execute(text("SELECT 1"))
    with psycopg.connect(libpq_url(database_url), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with database.statement() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_a_server_that_ends_new_connections_too_is_unavailable_and_no_defect(database_url: str) -> None:
    async with CuttingProxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=1)
        assert await ask(database) == 1

        def end_new_connection(*_: object) -> None:
            proxy.end()

        proxy.end()
        event.listen(Pool, "connect", end_new_connection)
        try:
            with pytest.raises(DatabaseUnavailable):
                await ask(database)
        finally:
            event.remove(Pool, "connect", end_new_connection)
        assert await ask(database) == 1
        await database.close()


async def test_a_server_that_takes_no_writes_is_unavailable_and_asked_anew_over_another_connection(
    database_url: str,
) -> None:
    database = Database(database_url, pool_size=1)
    name = sql.Identifier(str(make_url(database_url).database))
    write = text("CREATE TABLE written ()")
    with psycopg.connect(libpq_url(database_url), autocommit=True) as operator:
        operator.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        for connect in (database.statement, database.transaction):
            with pytest.raises(DatabaseUnavailable, match="read-only"):
                async with connect() as connection:
                    await connection.execute(write)
        operator.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
    async with database.statement() as connection:
        await connection.execute(write)
    await database.close()
