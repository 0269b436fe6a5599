"""What a server at rest has imported: memory that each process pays for."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conftest import Serve

UNNEEDED = {
    "alembic",
    "asyncpg",
    "boto3",
    "httpcore",
    "httpx",
    "limits",
    "mako",
    "obstore",
    "opentelemetry",
    "psycopg",
    "pygments",
    "redis",
    "rich",
    "sqlalchemy.dialects.postgresql",
}
"""Adapters and clients that a family's server on SQLite, with media in a folder, never uses."""


def test_a_server_at_rest_has_imported_what_it_uses(serve: Serve, tmp_path: Path):
    """[SCHEMA3] A running server with SQLite has imported no other database, bus, blob store, HTTP client or rich."""
    found = tmp_path / "modules"
    program = (
        "import atexit, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(found)!r}).write_text(' '.join(sys.modules)))\n"
        "from orbital_relay.cli import main\n"
        "main()"
    )
    server = serve(command=[sys.executable, "-c", program, "serve"])

    # It is migrated by a first start; the second one is every other.
    server.terminate()
    server.start()
    server.terminate()

    imported = set(found.read_text().split())
    assert "orbital_relay.server.serve" in imported
    assert UNNEEDED & imported == set()
