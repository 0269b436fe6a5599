"""Health and metrics over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from orbital_relay.server.http.routes import health
from tests.server.api import Api


async def test_alive_and_ready(api: Api):
    """[RUN1] A server whose database answers is alive and ready; neither endpoint needs a token."""
    live, ready = [await api.ask("GET", f"/health/{what}") for what in ("live", "ready")]

    assert (live.status_code, live.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "degraded": []})


async def test_an_unreachable_database(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[RUN2] A server is not ready while its database is unreachable, and names it; it stays alive."""

    async def away() -> bool:
        return False

    monkeypatch.setattr(api.node.store, "ready", away)

    ready, live = [await api.ask("GET", f"/health/{what}") for what in ("ready", "live")]

    assert (ready.status_code, ready.json()["error"], live.status_code) == (503, "UNAVAILABLE", 200)
    assert ready.json()["details"]["database"] is False


async def test_without_redis_degraded(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[RUN2] Without Redis posts are stored, so the server is ready; body and metric report the missing part."""
    monkeypatch.setattr(type(api.node.bus), "connected", property(lambda bus: False))

    ready = await api.ask("GET", "/health/ready")
    metrics = await api.ask("GET", "/metrics")

    assert (ready.status_code, ready.json()) == (200, {"status": "degraded", "degraded": ["redis"]})
    assert "orbital_redis_connected 0.0" in metrics.text


async def test_a_part_that_hangs(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[RUN2] A health check is answered in time even if the database hangs."""

    async def hang() -> bool:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(health, "PROBE_S", 0.05)
    monkeypatch.setattr(api.node.store, "ready", hang)

    answer = await api.ask("GET", "/health/ready")

    assert answer.status_code == 503


async def test_draining_is_not_ready(api: Api):
    """[RUN3] A draining server is not ready, so that it gets no new clients; it is alive until the end."""
    api.node.lifecycle.draining = True

    ready, live = [await api.ask("GET", f"/health/{what}") for what in ("ready", "live")]

    assert (ready.status_code, live.status_code) == (503, 200)
    assert int(ready.headers["retry-after"]) >= 1


async def test_metrics_are_prometheus_text(api: Api):
    """[MET2] The metrics are in Prometheus text format and reflect each operation."""
    ada = api.user()
    await ada.say((await ada.make_group())["group_id"])

    answer = await api.ask("GET", "/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'orbital_events_total{kind="new_message"} 1.0' in answer.text
