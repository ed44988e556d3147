from __future__ import annotations

import psycopg
import pytest
import redis


@pytest.mark.parametrize("_again", range(2))
def test_every_test_gets_a_database_of_its_own(database_url: str, _again: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE only_here ()")


@pytest.mark.parametrize("_again", range(2))
def test_every_test_gets_an_empty_redis(redis_url: str, _again: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.set("only-here", 1, nx=True)
