"""What `orbital status` shows: samples of `/metrics`, the rates between two of them, and the table."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import httpx
import msgspec
from rich.table import Table

from orbital_relay.commands.terminal import shown

WAIT_S: Final = 3.0
"""Longest wait for a server's metrics."""

_LINE: Final = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL: Final = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


class Sample(msgspec.Struct):
    """
    The metrics of one server at one moment.

    Attributes:
        at_s: Monotonic time.
        reason: Why there are none; empty if there are.
        series: Values by name and labels; those of several workers are separate.
    """

    at_s: float
    reason: str = ""
    series: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    @property
    def answered(self) -> bool:
        """Whether the server answered."""
        return not self.reason

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series with these labels; a value is matched by its beginning."""
        return sum(
            value
            for (found, own), value in self.series.items()
            if found == name and all(dict(own).get(key, "").startswith(wanted) for key, wanted in labels.items())
        )

    def most(self, name: str) -> float | None:
        """Return the largest value of a metric's series; None if there is none."""
        return max((value for (found, _), value in self.series.items() if found == name), default=None)

    def least(self, name: str) -> float | None:
        """Return the smallest value of a metric's series; None if there is none."""
        return min((value for (found, _), value in self.series.items() if found == name), default=None)


def fetch(place: str) -> Sample:
    """Read the metrics of a server; an error becomes the sample's reason."""
    try:
        answer = httpx.get(f"{place}/metrics", timeout=WAIT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return Sample(time.monotonic(), reason=str(exc) or type(exc).__name__)
    if answer.status_code != httpx.codes.OK:
        return Sample(time.monotonic(), reason=f"/metrics answers {answer.status_code}")
    series = parse(answer.text)
    if "orbital_connections" not in {name for name, _ in series}:
        return Sample(time.monotonic(), reason="/metrics is not Orbital's")
    return Sample(time.monotonic(), series=series)


def parse(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the series of a text in Prometheus' format, without what cannot be read."""
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            try:
                value = float(match["value"])
            except ValueError:
                continue
            found[match["name"], tuple(_LABEL.findall(match["labels"] or ""))] = value
    return found


def rates(before: Sample, after: Sample) -> dict[str, float | str | None]:
    """
    Return what is shown of one server: counts now, and rates a second between two samples.

    A counter that went back, after a restart, counts from 0. A server that does not answer has `error` alone.
    """
    if not after.answered:
        return {"error": after.reason}
    elapsed_s = max(after.at_s - before.at_s, 1e-3)

    def rate(name: str, **labels: str) -> float:
        now, then = after.sum(name, **labels), before.sum(name, **labels) if before.answered else 0.0
        return round((now - then if now >= then else now) / elapsed_s, 3) if before.answered else 0.0

    def mean(name: str) -> float | None:
        count = rate(f"{name}_count")
        return round(rate(f"{name}_sum") / count, 6) if count else None

    return {
        "version": next(
            (dict(labels)["version"] for (name, labels) in after.series if name == "orbital_build_info"), ""
        ),
        "connections": after.sum("orbital_connections"),
        "subscriptions": after.sum("orbital_subscriptions"),
        "live_groups": after.sum("orbital_live_groups"),
        "users": after.most("orbital_users"),
        "groups": after.most("orbital_groups"),
        "stored_events": after.most("orbital_stored_events"),
        "events_per_s": rate("orbital_events_total"),
        "deliveries_per_s": rate("orbital_deliveries_total"),
        "requests_per_s": rate("orbital_http_requests_total"),
        "errors_per_s": rate("orbital_http_requests_total", status="5"),
        "errors": after.sum("orbital_http_requests_total", status="5"),
        "refused_requests_per_s": rate("orbital_http_requests_total", status="4"),
        "refused_handshakes_per_s": rate("orbital_refused_handshakes_total"),
        "cut_connections_per_s": rate("orbital_cut_connections_total"),
        "behind": after.sum("orbital_behind_listeners"),
        "lag_events": after.most("orbital_behind_lag_events_max"),
        "batch_posts": mean("orbital_append_batch_drafts"),
        "batch_s": mean("orbital_append_seconds"),
        "database_connected": after.least("orbital_database_connected"),
        "redis_connected": after.least("orbital_redis_connected"),
        "disk_free_bytes": after.least("orbital_disk_free_bytes"),
        "draining": after.most("orbital_draining"),
        "clock_ahead_s": after.most("orbital_clock_ahead_seconds"),
    }


_ROWS: Final = {
    "version": "version",
    "connections": "connections",
    "subscriptions": "subscriptions",
    "live_groups": "groups with a subscriber",
    "users": "users",
    "groups": "groups",
    "stored_events": "events stored",
    "events_per_s": "events a second",
    "deliveries_per_s": "deliveries a second",
    "batch_posts": "posts a batch",
    "batch_s": "seconds a batch",
    "behind": "connections behind",
    "lag_events": "events of the furthest behind",
    "requests_per_s": "requests a second",
    "refused_requests_per_s": "refused requests a second",
    "refused_handshakes_per_s": "refused handshakes a second",
    "cut_connections_per_s": "cut connections a second",
    "errors_per_s": "errors (5xx) a second",
    "errors": "errors (5xx) since the start",
    "database_connected": "database",
    "redis_connected": "Redis",
    "disk_free_bytes": "free disk",
    "draining": "shutting down",
    "clock_ahead_s": "clock ahead, seconds",
}


def table(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> Table:
    """Return the table: a column for each server, a row for each value."""
    view = Table(title=f"Orbital, {len(after)} server{'s' if len(after) > 1 else ''}", title_justify="left")
    view.add_column("")
    columns = []
    for place in after:
        view.add_column(shown(place), justify="right")
        columns.append(rates(before[place], after[place]))
    if any("error" in column for column in columns):
        view.add_row("error", *(shown(str(column.get("error", ""))) for column in columns), style="red")
    for key, title in _ROWS.items():
        view.add_row(title, *(_cell(key, column) for column in columns), style=_style(key, columns))
    return view


def _cell(key: str, column: Mapping[str, float | str | None]) -> str:
    value = column.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return shown(value)
    if key.endswith("_connected"):
        return "yes" if value else "NO"
    if key == "draining":
        return "YES" if value else "no"
    if key.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


def _style(key: str, columns: list[dict[str, float | str | None]]) -> str | None:
    values = [column[key] for column in columns if key in column]
    wrong: dict[str, bool] = defaultdict(
        bool,
        database_connected=0 in values,
        redis_connected=0 in values,
        errors_per_s=any(values),
        clock_ahead_s=any(values),
        draining=any(values),
    )
    return "red" if wrong[key] else None
