"""Interleaved runs: every system once, then again, so that a figure and its peer's are of the same minute."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.load import SATURATED, Load, LoadFailed
from bench.systems import Layout, Missing, System, Testbed


@dataclass
class Figures:
    """What one system gave, run by run."""

    label: str
    runs: list[dict] = field(default_factory=list)

    def all(self, name: str) -> list[float]:
        """A figure's values, one for each run that has it."""
        return [run[name] for run in self.runs if run.get(name) is not None]

    def median(self, name: str) -> float | None:
        """The middle of them."""
        values = self.all(name)
        return statistics.median(values) if values else None


class Bench:
    """One measurement: its testbed, its servers, its display. Use as a context manager."""

    def __init__(
        self,
        systems: list[System],
        *,
        server_core: int,
        load_core: int,
        steps: int = 0,
        spin: bool = True,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(stderr=True)
        cores = os.sched_getaffinity(0)
        apart = server_core in cores and load_core in cores and server_core != load_core
        if not apart:
            self.console.print(
                f"Cores {server_core} and {load_core} are not both here: figures are low.", style="yellow"
            )
        self.testbed = Testbed(server_core if apart else None, load_core if apart else None, steps)
        self.spin = spin
        self.wanted = systems
        self.systems: list[System] = []
        self.notes: list[str] = []
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}"),
            console=self.console,
            transient=True,
        )

    def __enter__(self) -> Self:
        self.progress.start()
        self.task = self.progress.add_task("starting", total=None, now="")
        for system in self.wanted:
            self.show(f"starting {system.label}")
            try:
                system.start(self.testbed)
            except Missing as missing:
                self.note(f"{system.label} is left out: {missing}")
            else:
                self.systems.append(system)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        for system in self.systems:
            with contextlib.suppress(OSError):
                system.stop()
        self.testbed.close()

    # Display

    def show(self, text: str, *, now: str = "", done: int | None = None, total: int | None = None) -> None:
        """Say what is going on."""
        self.progress.update(
            self.task, description=text, now=now, completed=done if done is not None else 0, total=total
        )

    def note(self, text: str) -> None:
        """A sentence that belongs under the table."""
        if text not in self.notes:
            self.notes.append(text)
            if self.console.is_terminal:
                self.progress.console.print(text, style="yellow", markup=False)

    def saturated(self, system: System, load_share: float) -> None:
        """Say so if the load side was itself the limit."""
        if load_share > SATURATED:
            self.note(f"{system.label}: the load side used {load_share:.0%} of its core; the server may be faster")

    def load(self, system: System) -> Load:
        """A load process for a system."""
        side = Load(system.host, system.port, core=self.testbed.load_core, steps=self.testbed.steps)
        if self.testbed.load_core is not None and self.spin:
            side.spin()
        return side

    def live(self, text: str, *, seconds: float) -> Callable[[dict], None]:
        """What shows a run's progress lines."""

        def show(word: dict) -> None:
            now = " ".join(
                f"{name}={word[name]:,}"
                for name in ("deliveries", "answers", "ready", "full", "pings", "done", "in_flight")
                if word.get(name)
            )
            self.progress.update(
                self.task, description=text, now=now, completed=min(word["at"], seconds), total=seconds
            )

        return show

    # Measuring

    def interleaved(self, rounds: int, one: Callable[[System, str], dict]) -> dict[str, Figures]:
        """Call `one(system, text)` for each system in turn, `rounds` times; one that fails is left out from then on."""
        figures = {system.key: Figures(system.label) for system in self.systems}
        out: set[str] = set()
        for number in range(rounds):
            for system in self.systems:
                if system.key in out:
                    continue
                text = f"round {number + 1}/{rounds} · {system.label}"
                self.show(text)
                try:
                    figures[system.key].runs.append(one(system, text))
                except LoadFailed as failed:
                    out.add(system.key)
                    self.note(f"{system.label} failed: {failed}")
        return {key: found for key, found in figures.items() if found.runs}

    def window(
        self,
        system: System,
        load: Load,
        text: str,
        layout: Layout,
        *,
        kind: str,
        amount: float,
        warm_s: float,
        window_s: float,
        drain_s: float = 5,
    ) -> dict:
        """One run of published events, with the server's CPU time between the window's edges."""
        mark: dict[str, float] = {}

        def edge(name: str) -> Callable[[], None]:
            def note() -> None:
                mark[name], mark[name + "_at"] = system.cpu_ns() or 0, time.monotonic()

            return note

        result = load.run(
            kind,
            amount,
            warm_s=warm_s,
            window_s=window_s,
            drain_s=drain_s,
            progress=self.live(text, seconds=warm_s + window_s),
            begin=edge("begin"),
            end=edge("end"),
        )
        result["load_share"] = result["load_cpu"] / result["seconds"]
        result["deliveries_s"] = result["deliveries"] / result["seconds"]
        result["answers_s"] = result["answers"] / result["seconds"]
        result["events_s"] = result["events"] / result["seconds"]
        result["frame_bytes"] = result["bytes"] / result["frames"] if result["frames"] else 0
        if system.cpu_ns() is not None:
            used_us = (mark["end"] - mark["begin"]) / 1e3
            result["server_share"] = used_us / 1e6 / (mark["end_at"] - mark["begin_at"])
            result["cpu_us_delivery"] = used_us / result["deliveries"] if result["deliveries"] else None
            result["cpu_us_event"] = used_us / result["events"] if result["events"] else None
        self.saturated(system, result["load_share"])
        if result["errors"]:
            self.note(f"{system.label}: {result['errors']} errors, the first: {result['error'][:160]}")
        if result["in_flight"] and kind == "closed":
            self.note(
                f"{system.label}: {result['in_flight']} events had not reached everyone {drain_s:.0f} s after the end"
            )
        if result["extra"]:
            self.note(f"{system.label}: {result['extra']} deliveries more than there are listeners")
        return result
