"""
A process that has imported the server and forks an `orbital serve` for each start that a test asks for.

Importing takes most of a server's start. What runs is the same command in a process of its own, with its own
environment, sockets and files; only the interpreter is not new. `serves` says for which starts that holds.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

ORBITAL_NAMES: Final = frozenset({"PORT", "DATABASE_URL", "REDIS_URL", "JWT_SECRET"})
"""The settings' variables that do not begin with `ORBITAL_`."""
_MAX_REQUEST_BYTES: Final = 256 * 1024


def is_orbital(name: str) -> bool:
    """Whether a variable of the environment is a setting of the server."""
    return name.startswith("ORBITAL_") or name in ORBITAL_NAMES


class ForkServer:
    """
    The parent's end: it starts servers and learns their exit statuses. Its methods may be called from any thread.

    It ends with the process that made it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def serves(self, environment: Mapping[str, str]) -> bool:
        """
        Whether a server with this environment is the same, forked, as one that is started.

        Beside settings it must hold just what this process was started with: the interpreter, the loader and the
        libraries read theirs only once.
        """

        def others(variables: Mapping[str, str]) -> dict[str, str]:
            # pytest sets it for each test.
            return {k: v for k, v in variables.items() if not is_orbital(k) and k != "PYTEST_CURRENT_TEST"}

        return others(environment) == others(self._environment)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> ForkedProcess:
        """Start `orbital` with these arguments in a folder; its standard output and error are the process' `stdout`."""
        reading, writing = os.pipe()
        request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        try:
            pid = self._ask(request, [writing])
        finally:
            os.close(writing)
        return ForkedProcess(self, pid, os.fdopen(reading, "rb"))

    def status_of(self, pid: int) -> int:
        """Return the exit status of a server that has ended, negative for a signal, and forget it."""
        return self._ask({"ended": pid}, [])

    def close(self) -> None:
        """End the process; servers that run stay."""
        self._control.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, Any], descriptors: list[int]) -> int:
        with self._lock:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            answer = self._control.recv(64)
        if not answer:
            raise RuntimeError("the fork server has ended")
        return int(answer)


class ForkedProcess:
    """A server that was forked, with the part of `subprocess.Popen` that a test needs."""

    stdin: None = None

    def __init__(self, parent: ForkServer, pid: int, stdout: IO[bytes]) -> None:
        self._parent = parent
        # It stays a zombie until its status is asked for, so the number is still its own.
        self._descriptor = os.pidfd_open(pid)
        self._lock = threading.Lock()
        self._status: int | None = None
        self.pid = pid
        self.stdout = stdout

    def poll(self) -> int | None:
        """Return the exit status if it has ended, negative for a signal."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """
        Return the exit status once it has ended.

        Raises:
            subprocess.TimeoutExpired: If it still runs after `timeout` seconds.
        """
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("orbital serve", timeout or 0)
        return status

    def kill(self) -> None:
        """Send SIGKILL; one that has ended takes none."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._status is None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def _ended(self, timeout_s: float | None) -> int | None:
        if self._status is None:
            poller = select.poll()
            poller.register(self._descriptor, select.POLLIN)
            if not poller.poll(None if timeout_s is None else timeout_s * 1000):
                return None
        with self._lock:
            if self._status is None:
                self._status = self._parent.status_of(self.pid)
                os.close(self._descriptor)
        return self._status


@functools.cache
def fork_server() -> ForkServer | None:
    """Return this process' fork server, started when first asked for; None where the system has no `pidfd_open`."""
    return ForkServer() if hasattr(os, "pidfd_open") else None


@atexit.register
def _end() -> None:
    # Registered before the modules that use it have registered theirs, so it comes after them.
    if fork_server.cache_info().currsize and (server := fork_server()):
        server.close()


def _become(request: Mapping[str, Any], output: int) -> None:
    """Turn a forked child into what `orbital ARGUMENTS` is after its imports."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["orbital", *request["arguments"]]


def _serve(control: socket.socket) -> bool:
    """Answer requests until the other end closes; return True in a child, which is to run the command."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MAX_REQUEST_BYTES, 1)
        if not message:
            return False
        request = json.loads(message)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            control.send(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        (output,) = descriptors
        if (pid := os.fork()) == 0:
            control.close()
            _become(request, output)
            return True
        os.close(output)
        control.send(b"%d" % pid)


def _main() -> None:
    from importlib import import_module

    from orbital_relay.cli import main

    for module in ("commands.serve", "server.app", "server.serve"):
        import_module(f"orbital_relay.{module}")
    # Collecting would write to every object, and copy the page that it shares with the parent.
    gc.freeze()
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        main()


if __name__ == "__main__":
    _main()
