"""Several servers on one PostgreSQL and one Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.redis import Redis
from tests.support.server import Server


@pytest.fixture
def cluster_of(serve: Any, postgres_url: str, redis_server: Redis) -> Iterator[Callable[..., list[Server]]]:
    """Start servers that share a database and a Redis; `env` is for all of them."""

    def make(count: int, **env: str) -> list[Server]:
        shared = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, **env}
        servers = [serve(env=shared, start=False) for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(Server.start, servers))

    return make
