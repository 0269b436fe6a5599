"""What the tests of the SDK share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.fake import FakeServer


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    """A server of the tests' own."""
    async with FakeServer() as running:
        yield running
