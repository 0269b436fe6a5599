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
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The HTTP application over a node in this process, with everything as by default but no limits."""
    async with opened(tmp_path) as api:
        yield api
