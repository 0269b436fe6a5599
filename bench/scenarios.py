"""What is done to each server, scenario by scenario; every function gives figures by system."""

import signal
import threading
import time
from dataclasses import dataclass

from bench.load import Load, LoadFailed
from bench.measure import Bench, Figures
from bench.systems import Layout, Orbital, System


@dataclass(frozen=True)
class Pace:
    """How long, and how often."""

    rounds: int = 3
    warm_s: float = 1.0
    window_s: float = 3.0


def prepared(bench: Bench, system: System, load: Load, layout: Layout, text: str) -> None:
    """Make users and groups there, with the count on display."""
    if isinstance(system, Orbital):
        system.prepare(load, layout, progress=bench.live(f"{text}: making groups", seconds=60))
    else:
        system.prepare(load, layout)


def broadcast(
    bench: Bench, layout: Layout, pace: Pace, *, kind: str, amount: float, drain_s: float = 5
) -> dict[str, Figures]:
    """Listeners in groups, and events to them: in flight (`closed`) or a second (`open`)."""

    def one(system: System, text: str) -> dict:
        with bench.load(system) as load:
            prepared(bench, system, load, layout, text)
            load.listeners(system.listener(layout, g, m) for g in range(layout.groups) for m in range(layout.members))
            system.publishers(load, layout)
            load.connect(progress=bench.live(f"{text}: connecting", seconds=60))
            return bench.window(
                system,
                load,
                text,
                layout,
                kind=kind,
                amount=amount,
                warm_s=pace.warm_s,
                window_s=pace.window_s,
                drain_s=drain_s,
            )

    return bench.interleaved(pace.rounds, one)


def idle(bench: Bench, *, connections: int, seconds: float, rounds: int) -> dict[str, Figures]:
    """Connections that only listen: memory for each, and what heartbeats cost.

    Each round has a server of its own: one that has closed connections keeps their memory for the next ones. It is
    restarted once the users are made, so that what it remembers of them counts as the connections' too. In the end
    each group gets an event, to see that all are still there.
    """
    used: set[str] = set()

    def one(system: System, text: str) -> dict:
        if system.key in used:
            system.again(bench.testbed)
        used.add(system.key)
        layout = Layout(groups=max(connections // 10, 1), members=10, posters=4)
        with bench.load(system) as load:
            prepared(bench, system, load, layout, text)
            system.reopen()
            before = system.resident_bytes()
            load.listeners(system.listener(layout, g, m) for g in range(layout.groups) for m in range(layout.members))
            system.publishers(load, layout)
            opened = load.connect(at_once=200, within_s=180, progress=bench.live(f"{text}: connecting", seconds=30))
            time.sleep(1)
            after = system.resident_bytes()
            mark = [0, 0]

            def begin() -> None:
                mark[0] = system.cpu_ns() or 0

            def end() -> None:
                mark[1] = system.cpu_ns() or 0

            quiet = load.idle(seconds, progress=bench.live(f"{text}: idle", seconds=seconds), begin=begin, end=end)
            if quiet["cuts"]:
                bench.note(f"{system.label}: {quiet['cuts']} idle connections were cut: {quiet['error'][:120]}")
            count = opened["ready"]
            result = {
                "connections": count,
                "handshakes_s": count / opened["seconds"],
                "pings": quiet["pings"],
            }
            every = load.run("count", len(layout.pairs), warm_s=0, window_s=60)
            result["reached"] = every["deliveries"] / layout.members / len(layout.pairs)
            result["errors"] = every["errors"]
            if every["errors"]:
                bench.note(f"{system.label}: {every['errors']} errors, the first: {every['error'][:120]}")
            if before is not None and after is not None:
                result["bytes_each"] = (after - before) / count
                result["cpu_share"] = (mark[1] - mark[0]) / 1e9 / quiet["seconds"]
                result["settled_each"] = ((system.resident_bytes() or 0) - before) / count
        return result

    return bench.interleaved(rounds, one)


def connect(bench: Bench, *, connections: int, cycles: int, rounds: int) -> dict[str, Figures]:
    """Connections that are opened, authenticated, subscribed and cut, all of them, several times.

    The first cycle warms up: users and groups are new to the server in it. CPU is counted from the first handshake of
    a cycle until the server has noticed the last cut.
    """

    def one(system: System, text: str) -> dict:
        layout = Layout(groups=max(connections // 10, 1), members=10, posters=4)
        with bench.load(system) as load:
            prepared(bench, system, load, layout, text)
            load.listeners(system.listener(layout, g, m) for g in range(layout.groups) for m in range(layout.members))
            count, seconds, load_cpu = 0, 0.0, 0.0
            used: int | None = 0
            for cycle in range(cycles + 1):
                before = system.cpu_ns()
                opened = load.connect(at_once=64, progress=bench.live(f"{text}: cycle {cycle}", seconds=10))
                load.drop()
                time.sleep(0.3)
                after = system.cpu_ns()
                if cycle:
                    count += opened["ready"]
                    seconds += opened["seconds"]
                    load_cpu += opened["load_cpu"]
                    used = None if None in (before, after, used) else used + after - before
            result = {"connections_s": count / seconds, "load_share": load_cpu / seconds}
            if used is not None:
                result["cpu_us_each"] = used / 1e3 / count
            return result

    return bench.interleaved(rounds, one)


def storm(
    bench: Bench, *, clients: int, missed: int, others: int, rounds: int, within_s: float = 60
) -> dict[str, Figures]:
    """All clients are cut, miss events, come back at once and resume; meanwhile others are served."""

    def one(system: System, text: str) -> dict:
        groups = max(clients // 10, 1)
        # The last group is the others'; the rest come back.
        layout = Layout(groups=groups + others // 10, members=10, posters=50)
        with bench.load(system) as crowd, bench.load(system) as calm:
            prepared(bench, system, crowd, layout, text)
            resumes = isinstance(system, Orbital)  # a peer without a log only has to take them back
            seqs = system.heads(crowd, layout) if resumes else {}
            calm.listeners(system.listener(layout, g, m) for g in range(groups, layout.groups) for m in range(10))
            system.publishers(calm, _Some(layout, range(groups, layout.groups)))
            calm.connect()
            before = _quiet(bench, calm, text, 3)
            # A first connection for all, so that what comes is a return; then the power cut.
            crowd.listeners(system.listener(layout, g, m, since=seqs.get(g)) for g in range(groups) for m in range(10))
            crowd.connect(within_s=120, progress=bench.live(f"{text}: connecting {clients:,}", seconds=30))
            crowd.drop(listeners_only=True)
            if resumes:
                with bench.load(system) as poster:
                    system.publishers(poster, _Some(layout, range(groups)))
                    poster.connect()
                    count = missed * len(_Some(layout, range(groups)).pairs)
                    sent = poster.run(
                        "count",
                        count,
                        warm_s=0,
                        window_s=120,
                        progress=bench.live(f"{text}: what they miss", seconds=30),
                    )
                    if sent["answers"] != count:
                        raise LoadFailed(f"{sent['answers']} of {count} events were taken: {sent['error']}")
            calm.write(f"run open 50 0 {within_s} 2")
            time.sleep(0.5)
            system_cpu = system.cpu_ns()
            started = time.monotonic()
            back = crowd.connect(
                at_once=clients,
                within_s=within_s,
                want=missed if resumes else 0,
                progress=bench.live(f"{text}: all come back", seconds=30),
            )
            took = time.monotonic() - started
            cpu = system.cpu_ns()
            calm.process.send_signal(signal.SIGUSR1)
            during = calm.read()
            full = back["full"] if resumes else back["ready"]
            result = {
                "took_s": took,
                "full": full,
                "failed": back["failed"],
                "each": back["full_us"],
                "others": during["each"],
                "before": before["each"],
                "resumed_s": full / took,
                "events_s": back["deliveries"] / took,
                "load_share": back["load_cpu"] / back["seconds"],
            }
            if cpu is not None and system_cpu is not None:
                result["server_share"] = (cpu - system_cpu) / 1e9 / took
            if full != groups * 10:
                bench.note(
                    f"{system.label}: {full:,} of {groups * 10:,} were complete after {took:.0f} s; "
                    f"{back['failed']} handshakes failed {back['error'][:100]}"
                )
            return result

    return bench.interleaved(rounds, one)


class _Some:
    """A layout of which only some groups get events."""

    def __init__(self, layout: Layout, groups: range) -> None:
        self._layout, self._groups = layout, groups

    def __getattr__(self, name: str):
        return getattr(self._layout, name)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of those groups."""
        return [(g, p) for g, p in self._layout.pairs if g in self._groups]


def _quiet(bench: Bench, load: Load, text: str, seconds: float) -> dict:
    return load.run(
        "open", 50, warm_s=0.5, window_s=seconds, progress=bench.live(f"{text}: the others alone", seconds=seconds)
    )


def slow(bench: Bench, *, listeners: int, stalled: int, rate: float, seconds: float, rounds: int) -> dict[str, Figures]:
    """Some of a group's listeners never read: what the others feel, and what the server's memory does."""

    def one(system: System, text: str) -> dict:
        layout = Layout(groups=1, members=listeners, posters=4)
        with bench.load(system) as load:
            prepared(bench, system, load, layout, text)
            load.listeners(system.listener(layout, 0, m, flags="gd" if m < stalled else "g") for m in range(listeners))
            system.publishers(load, layout)
            load.connect(progress=bench.live(f"{text}: connecting", seconds=30))
            before = system.resident_bytes()
            highest = [before or 0]
            over = threading.Event()

            def look() -> None:
                while not over.wait(0.25):
                    highest[0] = max(highest[0], system.resident_bytes() or 0)

            watcher = threading.Thread(target=look, daemon=True)
            watcher.start()
            try:
                result = bench.window(system, load, text, layout, kind="open", amount=rate, warm_s=1, window_s=seconds)
            finally:
                over.set()
                watcher.join()
            if before is not None:
                result["grown_bytes"] = highest[0] - before
                result["grown_each"] = (highest[0] - before) / max(stalled, 1)
            return result

    return bench.interleaved(rounds, one)


def replay(bench: Bench, *, clients: int, events: int, rounds: int) -> dict[str, Figures]:
    """Clients who resume a long way back, all of one group: events a second out of the log."""

    def one(system: System, text: str) -> dict:
        layout = Layout(groups=1, members=clients, posters=4)
        with bench.load(system) as load:
            prepared(bench, system, load, layout, text)
            with bench.load(system) as poster:
                system.publishers(poster, layout)
                poster.connect()
                poster.run(
                    "count", events, warm_s=0, window_s=120, progress=bench.live(f"{text}: filling the log", seconds=60)
                )
            since = system.heads(load, layout)[0] - events
            load.listeners(system.listener(layout, 0, m, since=since) for m in range(clients))
            cpu = system.cpu_ns()
            back = load.connect(
                at_once=clients, within_s=120, want=events, progress=bench.live(f"{text}: reading", seconds=30)
            )
            used = system.cpu_ns()
            if back["full"] != clients:
                raise LoadFailed(f"{back['full']} of {clients} had everything; {back['error']}")
            result = {
                "took_s": back["seconds"],
                "events_s": back["deliveries"] / back["seconds"],
                "load_share": back["load_cpu"] / back["seconds"],
                "each": back["full_us"],
            }
            if cpu is not None and used is not None:
                result["cpu_us_event"] = (used - cpu) / 1e3 / back["deliveries"]
            return result

    return bench.interleaved(rounds, one)
