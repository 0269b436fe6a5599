"""The versions of the schema, read without Alembic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alembic.script import ScriptDirectory

from orbital_relay.store import schema

_MIGRATIONS = Path(schema.__file__).parent / "migrations"


def test_versions_equal_alembics():
    """[SCHEMA1] The versions in the file names equal those that Alembic finds, and the greatest is its head."""
    script = ScriptDirectory(str(_MIGRATIONS))

    assert schema.revisions() == {step.revision for step in script.walk_revisions()}
    assert schema.newest() == script.get_current_head()


def test_unneeded_modules_are_not_imported():
    """[SCHEMA2] A server with SQLite imports neither Alembic, PostgreSQL's dialect, Redis limits nor an HTTP client."""
    program = (
        "import sys, orbital_relay.server.serve\n"
        "print(*sorted({'alembic', 'asyncpg', 'httpx', 'limits', 'mako', 'redis', 'rich',"
        " 'sqlalchemy.dialects.postgresql'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert found.stdout.split() == []
