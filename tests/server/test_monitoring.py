"""The shipped rules, scrape configuration and dashboard, checked by promtool and a Prometheus that scrapes a server."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orbital_relay.server.ops.metric_table import METRICS
from tests.support.client import PASSWORD, Person
from tests.support.process import Program, until
from tests.support.programs import CHECKOUT, free_port, prometheus, promtool
from tests.support.server import Server

DEPLOY = CHECKOUT / "deploy"
RULES = DEPLOY / "prometheus"
DASHBOARD = json.loads((DEPLOY / "grafana" / "orbital.json").read_text("utf-8"))

ONLY_IN_TROUBLE = {
    "orbital_cut_connections_total",
    "orbital_gaps_total",
    "orbital_refused_handshakes_total",
}
"""Metrics that may have no series, or no rate yet, on a healthy server."""


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool(), *map(str, command)], capture_output=True, text=True, cwd=RULES, timeout=60)


def _dashboard() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def _rules() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load((RULES / "orbital.rules.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule.get("record") or rule["alert"], rule["expr"]


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "orbital.rules.yml"),
        ("test", "rules", "orbital.rules.test.yml"),
    ],
)
def test_promtool_accepts_the_rules(command: tuple[str, ...]):
    """[MON1] promtool accepts the scrape configuration and the rules, and alerts fire when they should."""
    done = _run(*command)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_is_asked_for_exists():
    """[MON2] Each metric in the dashboard and in the rules is in the table of metrics, or is a recorded one."""
    known = {metric.name for metric in METRICS} | {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
    histograms = [metric.name for metric in METRICS if metric.kind == "histogram"]
    known |= {f"{name}_{end}" for name in histograms for end in ("bucket", "sum", "count")}
    known |= {name for name, _ in _rules()}
    asked = {
        name
        for _, expr in (*_dashboard(), *_rules())
        for name in re.findall(r"\b(?:orbital|process)[_:][a-z0-9_:]+", re.sub(r'"[^"]*"', '""', expr))
    }

    assert len(asked) > 25
    assert asked - known == set()


def test_each_alert_says_what_to_do():
    """[MON3] Each alert has a severity, a summary and a description; panels of the dashboard do not overlap."""
    groups = yaml.safe_load((RULES / "orbital.rules.yml").read_text("utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(alerts) > 8
    for rule in alerts:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} <= set(rule["annotations"])
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert all(x < 24 for x, _ in taken)


class _Prometheus:
    """A Prometheus that scrapes one server each second by the shipped configuration."""

    def __init__(self, folder: Path, target: str) -> None:
        config = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES / "orbital.rules.yml")]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        self.url = f"http://127.0.0.1:{free_port()}"
        self.program = Program(
            [
                prometheus(),
                f"--config.file={path}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                f"--storage.tsdb.path={folder / 'data'}",
            ]
        )

    def ask(self, query: str) -> list[Any]:
        """Return the result of a query; an error in it fails the test."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=60)
        assert answer.status_code == 200, (query, answer.text)
        found: list[Any] = answer.json()["data"]["result"]
        return found

    def scrapes(self) -> int:
        """Return how often the server answered."""
        found = self.ask('sum_over_time(up{job="orbital"}[10m])')
        return int(float(found[0]["value"][1])) if found else 0

    def ready(self) -> bool:
        """Return whether it answers queries: it first reads its own log."""
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    def wait(self, times: int) -> None:
        """Wait for so many more scrapes."""
        wanted = self.scrapes() + times
        until(lambda: self.scrapes() >= wanted, what=f"{times} scrapes", deadline_s=90, every_s=0.2)


async def test_a_prometheus_answers_every_query(serve: Callable[..., Server], tmp_path: Path):
    """[MON4] A Prometheus that scrapes a server answers each query of dashboard and rules with data."""
    server = serve(env={"ORBITAL_PRUNE_SECONDS": "0.2"})
    watching = _Prometheus(tmp_path, f"127.0.0.1:{server.port}")
    try:
        await asyncio.to_thread(until, watching.ready, what="a Prometheus", deadline_s=60, every_s=0.2)
        await asyncio.to_thread(watching.wait, 1)

        async def talk() -> None:
            ann = await Person.sign_up(server.url)
            group = await ann.make_group()
            socket = await ann.listen(group)
            posted = await ann.say(group)
            await socket.until_seq(group, posted["seq"])
            await socket.close()
            await ann.close()

        # Of what is counted before a rate begins and after it, a rate can be made.
        for _ in range(2):
            await talk()
            wrong = {"username": "nobody", "password": PASSWORD}
            assert httpx.post(f"{server.url}/api/login", json=wrong).status_code == 401
            await asyncio.to_thread(watching.wait, 3)
        checked = subprocess.run(
            [promtool(), "check", "metrics"],
            input=httpx.get(f"{server.url}/metrics").text,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert checked.returncode == 0, checked.stderr
        empty = []
        for title, expr in (*_dashboard(), *_rules()):
            query = re.sub(r"\$(?:job|instance)", ".+", expr).replace("$__rate_interval", "1m")
            if not watching.ask(query) and not any(name in query for name in ONLY_IN_TROUBLE):
                empty.append(title)
        # An alert that does not fire has no result.
        assert set(empty) <= {name for name, _ in _rules() if name.startswith("Orbital")}
        assert watching.ask('ALERTS{alertstate="firing"}') == []
    finally:
        watching.program.terminate()
