"""Fixtures for tests of the server's HTTP side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.api import Api, opened


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The HTTP application over a node in this process, with everything as by default but no limits."""
    async with opened(tmp_path) as api:
        yield api
