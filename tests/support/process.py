"""A child process whose lines are kept, so that a test can wait for what it says."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import os
import re
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tests.support.fork_server import ForkedProcess

_running: weakref.WeakSet[Program] = weakref.WeakSet()


@atexit.register
def _leave_nothing() -> None:
    # A run that was interrupted has not come to its fixtures' ends.
    for program in list(_running):
        if program.alive:
            program.kill()


class Gone(AssertionError):
    """The process ended, or stayed silent, before it said what a test waited for."""


class Program:
    """
    One run of a program, with standard output and error kept as lines.

    Waiting is for lines and for the end of the process, never for a while. A program is not started twice.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        stdin: bool = False,
        process: ForkedProcess | None = None,
    ) -> None:
        """
        Start it, or keep watch over `process`, which runs it already.

        Args:
            command: The program and its arguments.
            env: Its environment; that of the tests if None.
            cwd: Its folder.
            user: The user that it runs as.
            stdin: Whether it has a standard input, for `say`.
            process: The program, if something else has started it.
        """
        self.command = [str(part) for part in command]
        self.lines: list[str] = []
        self.awaited = False
        """Whether somebody sent a signal to the program, or waited for its end: then an end is no surprise."""
        self._said = threading.Condition()
        self._over = False
        self._process = process or subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            env=None if env is None else dict(env),
            cwd=cwd,
            user=user,
            extra_groups=None if user is None else [],
            start_new_session=True,  # a Ctrl-C for the tests is not one for the program
        )
        _running.add(self)
        self._reader = threading.Thread(target=self._read, name=f"lines of {self.pid}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            with self._said:
                self.lines.append(raw.decode(errors="replace").rstrip("\r\n"))
                self._said.notify_all()
        with self._said:
            self._over = True
            self._said.notify_all()

    @property
    def pid(self) -> int:
        """The process' number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def ended_by_itself(self) -> bool:
        """Whether the process is gone without a signal from here, and nobody waited for its end."""
        return not self.alive and not self.awaited

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, deadline_s: float = 120, after: int = 0) -> re.Match[str]:
        """
        Return the match of the first line, from line number `after` on, in which `pattern` is found.

        Raises:
            Gone: If the output ended, or `deadline_s` passed, without it.
        """
        wanted = re.compile(pattern)
        until = time.monotonic() + deadline_s
        looked = after
        with self._said:
            while True:
                for line in self.lines[looked:]:
                    looked += 1
                    if found := wanted.search(line):
                        return found
                if self._over:
                    raise Gone(f"{self.command[0]} ended without {pattern!r}:\n{self.text}")
                if not self._said.wait(until - time.monotonic()) and time.monotonic() >= until:
                    raise Gone(f"{self.command[0]} did not say {pattern!r} in {deadline_s} s:\n{self.text}")

    def say(self, line: str) -> None:
        """Write a line to the program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def end_input(self) -> None:
        """Close the program's standard input, as Ctrl-D does."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended takes none, and that is fine."""
        self.awaited = self.awaited or number not in {signal.SIGSTOP, signal.SIGCONT}
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop the program where it stands (SIGSTOP), its sockets open."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program continue."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once (SIGKILL) and wait until it is gone."""
        self.awaited = True
        self._process.kill()
        self._process.wait()
        self._collect()

    def terminate(self, *, deadline_s: float = 120) -> int:
        """
        Ask the process to end (SIGTERM) and return its exit status.

        Raises:
            Gone: If it still runs after `deadline_s`; it is killed then.
        """
        self.signal(signal.SIGTERM)
        return self.wait(deadline_s=deadline_s)

    def wait(self, *, deadline_s: float = 120) -> int:
        """
        Return the exit status once the process has ended.

        Raises:
            Gone: If it still runs after `deadline_s`; it is killed then.
        """
        self.awaited = True
        try:
            status = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Gone(f"{self.command[0]} still ran after {deadline_s} s:\n{self.text}") from None
        self._collect()
        return status

    def _collect(self) -> None:
        # Children of the program may hold the pipe open: the lines so far have to do then.
        self._reader.join(2)
        if not self._reader.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


async def eventually(
    fact: Callable[[], object | Awaitable[object]], *, what: str, deadline_s: float = 120, every_s: float = 0.02
) -> None:
    """
    Do as `until` does, and let the loop run meanwhile; the fact may be one that is awaited.

    Raises:
        Gone: If `deadline_s` passed before; `what` says what was awaited.
    """
    limit = asyncio.timeout(deadline_s)
    try:
        async with limit:
            while True:
                found = fact()
                if await found if inspect.isawaitable(found) else found:
                    return
                await asyncio.sleep(every_s)  # nobody announces the fact
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise Gone(f"{what}: not within {deadline_s} s") from exc


def until(fact: Callable[[], bool], *, what: str, deadline_s: float = 120, every_s: float = 0.02) -> None:
    """
    Return once `fact()` holds.

    For facts outside the process that nobody announces; it looks again every `every_s`.

    Raises:
        Gone: If `deadline_s` passed before; `what` says what was awaited.
    """
    end = time.monotonic() + deadline_s
    while not fact():
        if time.monotonic() >= end:
            raise Gone(f"{what}: not within {deadline_s} s")
        time.sleep(every_s)  # nobody announces the fact
