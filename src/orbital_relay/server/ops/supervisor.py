"""Supervisor of worker processes on one port: start, stop together, replace after a crash."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from orbital_relay.config import Settings, SqliteFile
from orbital_relay.errors import SettingsInvalid
from orbital_relay.server.edge.listening import Listeners
from orbital_relay.server.ops.logging import reopen
from orbital_relay.server.ops.systemd import Notifier
from orbital_relay.server.ops.worker_metrics import Siblings

log = logging.getLogger("orbital.workers")

RESTART_S: Final = 1.0
"""Wait before a worker that died is replaced: one that dies at once does not spin."""

Work = Callable[[Settings, Connection, Siblings, Listeners | None, float | None], None]
"""
What a worker runs, in a process of its own: it serves, at the sockets that it is given or at its own; it sends a
message once its port is open, and then one in each so many seconds, if that is asked for.
"""


def check(settings: Settings) -> None:
    """
    Refuse workers that could not work together.

    Raises:
        SettingsInvalid: If there is no Redis or no PostgreSQL, or the system cannot share a port.
    """
    if settings.redis_url is None:
        raise SettingsInvalid(
            f"--workers is {settings.workers} and there is no Redis: several workers are a cluster, and tell each "
            "other by Redis what happens. Give --redis-url, or leave --workers out."
        )
    if isinstance(settings.database, SqliteFile):
        raise SettingsInvalid(
            f"--workers is {settings.workers} and the database is a file, which one process writes. "
            "Give --database-url postgresql://…, or leave --workers out."
        )
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsInvalid("This system cannot share a port between processes. Leave --workers out.")


class Workers:
    """
    The workers of one machine. A worker that dies is replaced; one that dies before the first start ends them all.

    It holds the port without listening, so that nobody else takes it while workers come and go. SIGHUP goes to each
    worker. systemd's watchdog is served while every worker reports that it is alive.

    Args:
        settings: All of them.
        work: What each runs.
        listeners: The bound sockets that tell the places; kept open.
        notifier: Where the service manager listens.
        shown: The place, as the service manager shows it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        work: Work,
        listeners: Listeners,
        notifier: Notifier | None = None,
        shown: str = "",
    ) -> None:
        self._settings = listeners.settings(settings)
        self._work = work
        self._given = listeners if listeners.shared else None
        self._notifier = notifier or Notifier()
        self._shown = shown
        self._beats: dict[SpawnProcess, float] = {}
        self._notified_s = 0.0
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[SpawnProcess, Connection | None] = {}
        self._numbers: dict[SpawnProcess, int] = {}
        self._folder = Path()
        self._started = 0
        self._stopping = False

    def run(self, *, on_started: Callable[[Settings], None]) -> int:
        """
        Serve until SIGTERM or SIGINT; a second one ends the workers at once.

        Args:
            on_started: Called once all serve.

        Returns:
            The exit status: 0 after an orderly end.
        """
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._pass_on)
        try:
            with tempfile.TemporaryDirectory(prefix="orbital-workers-") as folder:
                self._folder = Path(folder)
                for number in range(1, self._settings.workers + 1):
                    self._start(number)
                status = 0
                while self._running:
                    status |= self._look(on_started)
                    self._beat()
                return status
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, number: int) -> None:
        here, there = self._context.Pipe(duplex=False)
        siblings = Siblings(self._folder, number, self._settings.workers)
        process = self._context.Process(
            target=self._work,
            args=(self._settings, there, siblings, self._given, self._notifier.beat_s),
            name=f"orbital worker {number}",
        )
        # A new program starts with the default for each signal that has a handler here, but keeps an ignored one.
        before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGHUP, signal.SIGUSR1)}
        process.start()
        for each, handler in before.items():
            signal.signal(each, handler)
        there.close()
        self._running[process] = here
        self._numbers[process] = number
        if self._stopping:
            # stop() may run while this worker starts; it was not in the list then.
            self._signal(process, signal.SIGTERM)

    def _look(self, on_started: Callable[[Settings], None]) -> int:
        """Wait until something happens, and see to it; return 1 when a worker ended badly."""
        talking = {connection: process for process, connection in self._running.items() if connection is not None}
        ends = {process.sentinel: process for process in self._running}
        status = 0
        # A signal's handler runs in between, and stops what is waited for.
        for ready in wait([*talking, *ends], timeout=1):
            if isinstance(ready, Connection):
                self._read_report(talking[ready], ready, on_started)
            elif isinstance(ready, int) and ends[ready] in self._running:
                status |= self._ended(ends[ready])
        return status

    def _read_report(
        self, process: SpawnProcess, connection: Connection, on_started: Callable[[Settings], None]
    ) -> None:
        try:
            connection.recv()
        except EOFError:
            # It ended; its sentinel tells the rest.
            connection.close()
            self._running[process] = None
            return
        first = process not in self._beats
        self._beats[process] = time.monotonic()
        if not first:
            return
        self._started += 1
        if self._started == self._settings.workers:
            on_started(self._settings)
            self._notifier.ready(self._shown)
        if self._notifier.beat_s is None:
            connection.close()
            self._running[process] = None

    def _beat(self) -> None:
        """Serve systemd's watchdog, unless a worker is stuck; one that starts is given the time that it needs."""
        beat_s, watchdog_s = self._notifier.beat_s, self._notifier.watchdog_s
        now_s = time.monotonic()
        if beat_s is None or watchdog_s is None or now_s - self._notified_s < beat_s:
            return
        if all(now_s - seen_s < watchdog_s for seen_s in self._beats.values()):
            self._notified_s = now_s
            self._notifier.alive()

    def _ended(self, process: SpawnProcess) -> int:
        connection, number = self._running.pop(process), self._numbers.pop(process)
        served = self._beats.pop(process, None) is not None
        if connection is not None:
            connection.close()
        process.join()
        if self._stopping:
            # Before it serves, a worker has no handler yet, and our SIGTERM itself ends it.
            orderly = {0} if served else {0, -signal.SIGTERM}
            return int(process.exitcode not in orderly)
        if self._started < self._settings.workers:
            # It said why; the others would say the same.
            self.stop()
            return 1
        log.error("a worker died and is replaced", extra={"pid": process.pid, "status": process.exitcode})
        time.sleep(RESTART_S)
        if not self._stopping:
            self._start(number)
        return 0

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.stop()

    def _pass_on(self, number: int, _frame: object) -> None:
        for process in self._running:
            self._signal(process, signal.Signals(number))

    def _on_hangup(self, number: int, frame: object) -> None:
        has_file = reopen()
        if self._settings.tls_cert is None and not has_file:
            log.info("SIGHUP changes nothing: settings are read at the start; SIGTERM stops the workers")
            return
        self._notifier.reloading()
        self._pass_on(number, frame)
        self._notifier.ready(self._shown)

    def stop(self) -> None:
        """Let all drain; a second call ends them at once."""
        if not self._stopping:
            self._notifier.stopping()
        self._stopping = True
        for process in self._running:
            self._signal(process, signal.SIGTERM)

    def _signal(self, process: SpawnProcess, number: signal.Signals) -> None:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)
