"""Fixtures for tests of the server's HTTP side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.server.api import Api, opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The same for all tests of a module, which then know each other's groups; each makes people of its own."""
    async with opened(tmp_path_factory.mktemp("shared")) as api:
        yield api


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty database with the mark `EACH_DATABASE`; None for SQLite, as without the mark."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def api(tmp_path: Path, database_url: str | None) -> AsyncIterator[Api]:
    """The HTTP application over a node in this process, with everything as by default but no limits."""
    async with opened(tmp_path, database_url=database_url) as api:
        yield api
