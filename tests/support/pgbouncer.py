"""A PgBouncer of one's own, in front of a PostgreSQL of the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests.support.postgres import Postgres
from tests.support.process import Program
from tests.support.programs import find, free_port, missing


class PgBouncer:
    """PgBouncer with its default settings but for the pool mode; `close` ends it."""

    def __init__(self, postgres: Postgres, *, pool_mode: str) -> None:
        binary = find("pgbouncer", also=("/usr/sbin/pgbouncer",))
        if binary is None:
            missing("PgBouncer", remedy="apt-get install pgbouncer")
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="orbital-pgbouncer-"))
        self._folder.chmod(0o755)
        (self._folder / "users.txt").write_text('"orbital" ""\n')
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=orbital\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {self._folder / 'users.txt'}\npool_mode = {pool_mode}\n"
        )
        self._program = Program(
            [binary, self._folder / "pgbouncer.ini"], user="nobody" if os.geteuid() == 0 else None, cwd=Path("/")
        )
        self._program.wait_for("process up")

    def url(self, database: str) -> str:
        """Return what `DATABASE_URL` takes."""
        return f"postgresql://orbital@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        """End it and remove its folder."""
        self._program.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
