"""The adapters, one after the other, behind one name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orbital_relay.ports import Store
from orbital_relay.store.sqlite import SqliteStore


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store, of each kind."""
    if request.param == "sqlite":
        opened: Store = await SqliteStore.open(tmp_path / "orbital.db")
    else:
        from orbital_relay.store.postgres import PostgresStore

        opened = await PostgresStore.open(request.getfixturevalue("postgres_cluster").create_database())
    yield opened
    await opened.close()
