"""An evening on a small machine: what a server holds, step by step, under a limit of memory."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import Load, LoadFailed, request
from bench.measure import Bench, Figures
from bench.systems import Layout, Orbital, Testbed, compact
from bench.tools import Missing, identity

MEMBERS = 100
"""People who are connected."""
SIGN_UPS = 16
"""Sign-ups at the same moment: each hashes a password with the memory that argon2 asks for."""
EVENTS = 30_000
"""Events that a device which was away for long catches up with."""
REPLAYS = 5
"""How many such devices come, one after another."""

WATCH_S = 0.05
"""How often memory is read where no control group can be made."""

_V2 = Path("/sys/fs/cgroup")
_V1 = _V2 / "memory"


class SmallMachine(Orbital):
    """
    Orbital whose processes may not use more memory than a limit.

    A control group enforces it. Where none can be made, the memory is read every `WATCH_S`, and the server is killed
    above the limit; a peak between two readings is missed.
    """

    def __init__(self, kind: type[Orbital], limit_bytes: int) -> None:
        super().__init__()
        self.key, self.label, self.database = kind.key, kind.label, kind.database
        self._limit_bytes = limit_bytes
        self._group: Path | None = None
        self._ended = threading.Event()
        self._watch: threading.Thread | None = None
        self.enforced_by = ""

    def command(self, testbed: Testbed) -> tuple[list[str], dict[str, str]]:
        command, env = super().command(testbed)
        try:
            self._group = _control_group(self._limit_bytes)
        except Missing as reason:
            self.enforced_by = f"Memory was read every {WATCH_S * 1000:.0f} ms: {reason}"
            return command, env
        self.enforced_by = f"The limit was enforced by a control group, {self._group.parent}."
        join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", join, str(self._group), *command], env

    def start(self, testbed: Testbed) -> None:
        super().start(testbed)
        if self._group is None:
            self._watch = threading.Thread(target=self._look, daemon=True)
            self._watch.start()

    def _look(self) -> None:
        while self.alive() and not self._ended.wait(WATCH_S):
            if (self.resident_bytes() or 0) > self._limit_bytes:
                self.process.kill()

    def stop(self) -> None:
        self._ended.set()
        if self._watch is not None:
            self._watch.join()
        super().stop()
        if self._group is not None:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    self._group.rmdir()
                    break
                time.sleep(0.1)

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self.process is not None and self.process.poll() is None


def _control_group(limit_bytes: int) -> Path:
    """
    Make a control group with a limit of memory, swap included.

    Raises:
        Missing: If this user may not, or the kernel has no such control.
    """
    try:
        if (_V2 / "cgroup.controllers").exists():
            group = Path(tempfile.mkdtemp(prefix="orbital-bench-", dir=_V2))
            (group / "memory.max").write_text(str(limit_bytes))
            with contextlib.suppress(OSError):
                (group / "memory.swap.max").write_text("0")
        else:
            group = Path(tempfile.mkdtemp(prefix="orbital-bench-", dir=_V1))
            (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
            with contextlib.suppress(OSError):
                (group / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        raise Missing(f"a control group needs root: {error}") from None
    return group


def small(bench: Bench, *, limit_mib: int, rounds: int) -> dict[str, Figures]:
    """
    Let a family of families use the server, and read after each step what it holds.

    Args:
        bench: The measurement; its first system says with which database.
        limit_mib: What the server may use, in MiB. Above it the server is killed, and the scenario fails.
        rounds: How often, each with a server of its own.

    Raises:
        LoadFailed: If the server was ended, or refused something.
    """
    kind = type(bench.systems[0])
    if not issubclass(kind, Orbital):
        raise LoadFailed("this scenario is Orbital's: name one of its systems")
    found: dict[str, Figures] = {}
    bench.systems[0].stop()
    for number in range(rounds):
        system = SmallMachine(kind, limit_mib * 1024 * 1024)
        try:
            system.start(bench.testbed)
            bench.note(system.enforced_by)
            _evening(bench, system, f"round {number + 1}/{rounds}", found)
        except LoadFailed as failed:
            if not system.alive():
                raise LoadFailed(f"the server was killed at {limit_mib} MiB ({failed})") from None
            raise
        finally:
            system.stop()
    return found


def _evening(bench: Bench, system: SmallMachine, text: str, found: dict[str, Figures]) -> None:
    def step(name: str, did: Callable[[], object]) -> None:
        bench.show(f"{text} · {name}")
        begun = time.monotonic()
        did()
        took_s = time.monotonic() - begun
        time.sleep(0.5)
        if not system.alive():
            raise LoadFailed(f"it did not live through: {name}")
        result = {"resident": system.resident_bytes(), "took_s": took_s}
        found.setdefault(name, Figures(name)).runs.append(result)

    layout = Layout(groups=MEMBERS // 10, members=10, posters=4)
    with bench.load(system) as load:
        step("at rest", lambda: time.sleep(1))
        step(f"{SIGN_UPS} sign-ups at once", lambda: _sign_up(load, system))
        system.prepare(load, layout)
        load.listeners(system.listener(layout, g, m) for g in range(layout.groups) for m in range(layout.members))
        system.publishers(load, layout)
        step(f"{MEMBERS} people connected", load.connect)
        load.drop()
        alone = Layout(groups=1, members=REPLAYS, posters=4)
        with bench.load(system) as poster:
            system.prepare(poster, alone)
            system.publishers(poster, alone)
            poster.connect()
            step(f"{EVENTS:,} events posted", lambda: poster.run("count", EVENTS, warm_s=0, window_s=300))
            head = system.heads(poster, alone)[0]

        def catch_up() -> None:
            for number in range(REPLAYS):
                with bench.load(system) as device:
                    device.listeners([system.listener(alone, 0, number, since=head - EVENTS)])
                    _catch_up(device, EVENTS)

        step(f"{REPLAYS} devices caught up with {EVENTS:,} events each", catch_up)


def _catch_up(load: Load, events: int) -> None:
    back = load.connect(at_once=1, within_s=120, want=events)
    if not back["full"]:
        raise LoadFailed(f"a device was not sent everything: {back['error']}")


def _sign_up(load: Load, system: SmallMachine) -> None:
    bodies = (
        {"username": f"small_{identity(os.getpid(), n)[:8]}", "password": f"Correct-Horse-{n}", "public_key": {}}
        for n in range(SIGN_UPS)
    )
    load.batch((request("POST", system.authority, "/api/signup", compact(body)) for body in bodies), conns=SIGN_UPS)
