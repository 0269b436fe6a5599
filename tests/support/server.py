"""A real `orbital serve`: one process on a port of its own, with a data folder of its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from tests.support.fork_server import fork_server, is_orbital
from tests.support.locks import lasting_locks
from tests.support.process import Gone, Program, until
from tests.support.programs import CHECKOUT

# A test that is not about a limit shall not meet one.
WIDE = {
    f"ORBITAL_{name}": "1000000"
    for name in (
        "CONNECT_LIMIT",
        "CONNECT_CEILING",
        "LOGIN_LIMIT",
        "SIGNUP_LIMIT",
        "JOIN_LIMIT",
        "REQUEST_LIMIT",
        "FRAME_RATE",
        "USER_GROUPS",
        "GROUP_MEMBERS",
        "UPLOAD_LIMIT",
        "USER_UPLOADS",
    )
} | {"ORBITAL_SIGNUPS": "open"}
SERVE = (sys.executable, "-m", "orbital_relay", "serve")
SECRET = "a secret for tests alone, long enough for HS256"
"""`JWT_SECRET` of every server here, so that a test can sign tokens as another service would."""


def with_constant(module: str, name: str, value: float) -> tuple[str, ...]:
    """
    Return the command of a server in which one constant of a module is another one, before anything reads it.

    Where a test claims that something does not wait for a timer, the timer gets an hour: then the fact itself is the
    proof, and no time has to be measured.
    """
    code = (
        f"import {module} as module; assert hasattr(module, {name!r}); module.{name} = {value!r}; "
        "from orbital_relay.cli import main; main()"
    )
    return (sys.executable, "-c", code, "serve")


_ADDRESS = r"https?://[^\s/:]+:(?P<port>\d+)"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.")


class Server:
    """
    One server, which may be killed and started again on the same port and data.

    `log` holds the lines of all its runs.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        command: Sequence[str] = SERVE,
    ) -> None:
        self.data_dir = data_dir
        self.env = {**WIDE, "JWT_SECRET": SECRET, **(env or {})}
        self.args = tuple(args)
        self.port = int(self.env.pop("PORT", "0"))
        self._command = tuple(command)
        self._past: list[str] = []
        self._ready = False
        self._program: Program | None = None

    # Where it is

    @property
    def url(self) -> str:
        """The base of the HTTP interface, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """The address of the socket."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def program(self) -> Program:
        """The current run, or the last one."""
        if self._program is None:
            raise AssertionError("start() comes first")
        return self._program

    @property
    def pid(self) -> int:
        """The process' number."""
        return self.program.pid

    @property
    def log(self) -> list[str]:
        """What was printed so far, over all runs."""
        return self._past + ([] if self._program is None else self._program.lines)

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        import psutil

        return int(psutil.Process(self.pid).memory_info().rss)

    # Starting and ending

    def start(self, *, deadline_s: float = 120) -> Server:
        """
        Start, and return once `/health/ready` answers 200.

        Raises:
            Gone: If it ended or was not ready in time; the message holds what it printed.
        """
        self.launch()
        self.wait_ready(deadline_s=deadline_s)
        return self

    def launch(self) -> Program:
        """Start without waiting for anything; for a server that is meant to refuse."""
        if self._program is not None:
            if self._program.alive:
                raise AssertionError(f"the server still runs as process {self.pid}")
            self._past += self._program.lines
        self._ready = False
        # Settings come from the test alone: what the machine has set for an Orbital of its own is not meant here.
        env = {
            **{name: value for name, value in os.environ.items() if not is_orbital(name)},
            "PYTHONUNBUFFERED": "1",
            "ORBITAL_DATA_DIR": str(self.data_dir),
            **self.env,
            "PORT": str(self.port),
        }
        parent = fork_server() if self._command == SERVE else None
        forked = parent.start(["serve", *self.args], env, CHECKOUT) if parent and parent.serves(env) else None
        self._program = Program([*self._command, *self.args], env=env, cwd=CHECKOUT, process=forked)
        return self._program

    def wait_ready(self, *, deadline_s: float = 120) -> None:
        """Return once the server says where it listens and is ready."""
        self.port = int(self.program.wait_for(_ADDRESS, deadline_s=deadline_s)["port"])

        def ready() -> bool:
            if not self.program.alive:
                raise Gone(f"the server ended:\n{self.program.text}")
            try:
                return httpx.get(f"{self.url}/health/ready", timeout=60).status_code == 200
            except httpx.TransportError:
                return False

        until(ready, what=f"/health/ready of {self.url}", deadline_s=deadline_s)
        self._ready = True

    def kill(self) -> None:
        """SIGKILL: no close frame, no flush."""
        self.program.kill()

    def terminate(self, *, deadline_s: float = 120) -> int:
        """SIGTERM; return the exit status."""
        return self.program.terminate(deadline_s=deadline_s)

    def restart(self, *, kill: bool = False, deadline_s: float = 120) -> Server:
        """End the server, if it runs (with SIGKILL if `kill`), and start it again on the same port and data."""
        if self._program is not None and self._program.alive:
            if kill:
                self.kill()
            else:
                self.terminate()
        return self.start(deadline_s=deadline_s)

    def close(self) -> int:
        """
        End it if it runs; return the exit status of an orderly end, 0 if the test has ended it.

        Raises:
            Gone: If it had ended although no test ended it, or had lost its locks on its database.
        """
        if self._program is None:
            return 0
        if not self._program.alive:
            surprise = self._program.ended_by_itself
            status = self._program.wait()
            if surprise:
                raise Gone(f"the server ended although no test ended it, with status {status}:\n{self._program.text}")
            return 0
        self._program.thaw()
        lost = self._lost_locks()
        status = self.terminate()
        if lost:
            raise Gone(f"the server lost SQLite's locks on {lost}:\n{self._program.text}")
        return status

    def _lost_locks(self) -> set[str]:
        """Return the files of its database on which a running server no longer has the locks that it needs."""
        database = self.data_dir / "orbital.db"
        index = self.data_dir / "orbital.db-shm"
        # Another program may have been started around the server: its number is not the server's.
        known = self._ready and self._command[0] == sys.executable and sys.platform == "linux"
        if not known or not (database.exists() and index.exists()):
            return set()
        return {database.name, index.name} - lasting_locks(database, self.pid)

    # What no run may do

    def complaints(self, *, after: int = 0) -> list[str]:
        """Return what no server may print, from line number `after` on: tracebacks, and tokens."""
        return [
            line
            for line in self.log[after:]
            if "Traceback (most recent call last)" in line or _JWT.search(line) is not None
        ]
