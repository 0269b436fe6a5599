"""Traces of a real node with OpenTelemetry's exporter in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.config import Settings
from orbital_relay.errors import SettingsInvalid
from orbital_relay.server import adapters, app
from tests.server.api import Api, opened
from tests.support.programs import missing
from tests.support.server import Server

try:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
except ImportError:
    TracerProvider = None  # type: ignore[assignment,misc]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Any:
    """Keeps the spans."""
    if TracerProvider is None:
        missing("OpenTelemetry's SDK", remedy="make dev")
    return InMemorySpanExporter()


@pytest.fixture
async def traced(exporter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """A node whose spans stay in memory."""
    from orbital_relay.server.ops.tracing import Tracing

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(app, "open_tracing", lambda _settings: Tracing(provider))
    async with opened(tmp_path) as api:
        yield api


async def test_a_post_is_traced_to_its_delivery(traced: Api, exporter: Any):
    """[OTEL1] A post makes a span of the request, in it one until it is durable, in that one of its delivery."""
    ann = traced.user()
    group = await ann.make_group()
    exporter.clear()
    answer = await ann.ask(
        "POST",
        "/v1/messages",
        json={"conversation_id": group["group_id"], "encrypted_envelope": "bXNn", "timestamp": 1},
        headers={"traceparent": PARENT},
    )
    assert answer.status_code == 200, answer.text
    spans = {span.name: span for span in exporter.get_finished_spans()}

    request, append, deliver = spans["POST /v1/messages"], spans["append"], spans["deliver"]
    assert request.parent.span_id == 0xB7AD6B7169203331
    assert append.parent.span_id == request.context.span_id
    assert deliver.parent.span_id == append.context.span_id
    assert {span.context.trace_id for span in spans.values()} == {0x0AF7651916CD43DD8448EB211C80319C}
    assert request.attributes["http.response.status_code"] == 200
    assert append.attributes["orbital.seq"] == answer.json()["seq"]
    assert append.start_time <= deliver.start_time <= deliver.end_time <= append.end_time <= request.end_time


async def test_a_span_names_nobody(traced: Api, exporter: Any):
    """[OTEL2] Spans have routes and numbers, never an id, a name, a token or an address; a failure is marked."""
    ann = traced.user()
    group = await ann.make_group()
    await ann.get(f"/api/groups/{group['group_id']}/members")

    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    traced.node.store.groups_of = broken  # type: ignore[method-assign]
    assert (await ann.get("/api/groups")).status_code == 500
    spans = exporter.get_finished_spans()

    text = " ".join(span.to_json() for span in spans)
    for secret in (group["group_id"], ann.id, ann.headers["Authorization"].removeprefix("Bearer "), "192.0.2.7"):
        assert secret not in text
    assert "GET /api/groups/{group_id}/members" in {span.name for span in spans}
    (failed,) = [span for span in spans if span.name == "GET /api/groups"]
    assert failed.status.status_code.name == "ERROR"


def test_without_the_setting_nothing_is_loaded():
    """[OTEL3] Without ORBITAL_TRACING no part of OpenTelemetry is imported, and no call is wrapped."""
    code = (
        "import sys; from orbital_relay.server.app import Node; from orbital_relay.server.http import build_app; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]", done.stderr
    assert adapters.open_tracing(Settings()) is None


def test_without_the_extra_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    """[OTEL4] ORBITAL_TRACING without the extra is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(SettingsInvalid, match=r"orbital-relay\[otel\]"):
        adapters.open_tracing(Settings(tracing=True))


def test_a_server_sends_its_traces(exporter: Any, serve: Any):
    """[OTEL5] A server with ORBITAL_TRACING sends spans to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    import httpx

    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        place = f"http://127.0.0.1:{collector.server_port}"
        server: Server = serve(env={"ORBITAL_TRACING": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": place})
        httpx.get(f"{server.url}/api/about")
        server.terminate()
        collector.shutdown()
        thread.join()

    assert {path for path, _ in got} == {"/v1/traces"}
    assert b"GET /api/about" in b"".join(body for _, body in got)
