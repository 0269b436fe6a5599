"""Where the rows are, as an address says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbital_relay.config import Postgres, SqliteFile, load


@pytest.mark.parametrize(
    "url, database, shown",
    [
        (None, SqliteFile(Path("d/orbital.db")), "sqlite:///d/orbital.db"),
        ("sqlite:///x.db", SqliteFile(Path("x.db")), "sqlite:///x.db"),
        ("sqlite:////var/x.db", SqliteFile(Path("/var/x.db")), "sqlite:////var/x.db"),
        (
            "postgres://u:hush@h:1/d?password=hush",
            Postgres("postgresql://u:hush@h:1/d?password=hush"),
            "postgresql://h:1/d",
        ),
    ],
)
def test_the_database_url_is_parsed(url, database, shown):
    """[SET10] The address selects SQLite or a server; its form for logs has no credentials."""
    settings = load({"database_url": url, "data_dir": "d"}, {})

    assert settings.database == database
    assert settings.database.shown == shown
    assert "hush" not in repr(settings.database)
