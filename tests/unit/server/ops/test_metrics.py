"""The response of `/metrics`, read back by Prometheus' own parser."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from orbital_relay import __version__
from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import HubSubscription, Listener, LiveGroup
from orbital_relay.model import GroupId, Head, MediaState
from orbital_relay.ports import Census, MediaUsage
from orbital_relay.relay import Counters
from orbital_relay.server.ops import metrics as room
from orbital_relay.server.ops.counters import ServerCounters
from orbital_relay.server.ops.histogram import Histogram
from orbital_relay.server.ops.metric_table import METRICS
from orbital_relay.server.ops.metrics import Metrics
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.services.media_context import MediaCounters

ROOT = Path(__file__).parents[4]


def _counters() -> ServerCounters:
    counters = ServerCounters()
    counters.refusals.update({"UNAUTHORIZED": 2, "TOO_MANY_REQUESTS": 9})
    return counters


@pytest.fixture
def sources():
    """The parts of a server that count, without the server."""
    return SimpleNamespace(
        counters=_counters(),
        sessions=SimpleNamespace(open={object(), object()}, frames_in=7, cut={"silent": 3}),
        relay=SimpleNamespace(
            hub=Hub(who=lambda _: ("", ""), compress=lambda text: text),
            counters=Counters(
                events={"new_message": 5, "new_thread": 1}, replayed=11, reads=2, gaps=4, lost=1, restored=8
            ),
        ),
        media=SimpleNamespace(
            in_progress=Counter(ada=3, bob=1), counters=MediaCounters(received_bytes=500, sent_bytes=9)
        ),
        lifecycle=SimpleNamespace(draining=False),
        pushed={"sent": 6, "gone": 1},
        clock=SimpleNamespace(ahead_s=lambda: 12.5),
        bus=SimpleNamespace(connected=True),
        disk=SimpleNamespace(free_bytes=lambda: 5_000, reserve_bytes=300),
        database="sqlite",
        watch=SimpleNamespace(connected=True, census=Census(users=3, groups=2, events=40)),
    )


@pytest.fixture
def metrics(sources):
    """The metrics of that server."""
    return Metrics(sources)


def _samples(metrics) -> dict[tuple, float]:
    """Every sample by its name and its labels' values."""
    body, _ = metrics.render()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


class IdleListener(Listener):
    """A listener that ignores what it receives."""

    def send(self, wire: bytes) -> None:
        """Write nothing."""

    def lost(self, group_id: GroupId, reason: str) -> None:
        """Learn nothing."""

    def reset(self, group_id: GroupId, seq: int) -> None:
        """Learn nothing."""


def _behind(hub, *positions) -> None:
    """Put a listener behind by so many events in each of some groups."""
    listener = IdleListener(1, "u")
    for number, (position, last, until) in enumerate(positions):
        group = LiveGroup(f"g-{number}")
        group.open(Head(last, 0, 0, ""))
        subscription = HubSubscription(group, position)
        subscription.until = until
        listener.subscriptions[group.group_id] = subscription
    hub.behind.add(listener)


def test_every_module_reports_its_metrics(metrics, sources):
    """[MET1] Connections, events, deliveries, bytes and the rest are reported as the modules count them."""
    hub = sources.relay.hub
    hub.subscriptions, hub.deliveries, hub.bytes_out, hub.bytes_plain = 12, 345, 1000, 1300
    hub.groups["g"] = LiveGroup("g")

    found = _samples(metrics)

    expected = {
        ("orbital_connections",): 2,
        ("orbital_subscriptions",): 12,
        ("orbital_live_groups",): 1,
        ("orbital_events_total", "new_message"): 5,
        ("orbital_events_total", "new_thread"): 1,
        ("orbital_deliveries_total",): 345,
        ("orbital_behind_listeners",): 0,
        ("orbital_behind_lag_events",): 0,
        ("orbital_behind_lag_events_max",): 0,
        ("orbital_replayed_events_total",): 11,
        ("orbital_replay_reads_total",): 2,
        ("orbital_gaps_total",): 4,
        ("orbital_positions_lost_total",): 1,
        ("orbital_log_rewinds_total",): 8,
        ("orbital_clock_ahead_seconds",): 12.5,
        ("orbital_redis_connected",): 1,
        ("orbital_frames_in_total",): 7,
        ("orbital_sent_bytes_total",): 1000,
        ("orbital_sent_plain_bytes_total",): 1300,
        ("orbital_refused_handshakes_total", "UNAUTHORIZED"): 2,
        ("orbital_refused_handshakes_total", "TOO_MANY_REQUESTS"): 9,
        ("orbital_cut_connections_total", "silent"): 3,
        ("orbital_draining",): 0,
        ("orbital_push_messages_total", "sent"): 6,
        ("orbital_disk_free_bytes",): 5_000,
        ("orbital_disk_reserve_bytes",): 300,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_each_scrape_reads_current_values(metrics, sources):
    """[MET2] Each scrape reads the current values."""
    sources.lifecycle.draining = True
    sources.relay.counters.events["new_message"] += 1
    sources.sessions.frames_in += 1

    found = _samples(metrics)

    assert found["orbital_draining",] == 1
    assert found["orbital_events_total", "new_message"] == 6
    assert found["orbital_frames_in_total",] == 8


def test_lag_of_listeners_that_are_behind(metrics, sources):
    """[MET3] Lag is the number of events still to be sent, up to the subscription's end, as a sum and as a maximum."""
    _behind(sources.relay.hub, (10, 15, None), (0, 100, 40))
    _behind(sources.relay.hub, (7, 7, None))

    found = _samples(metrics)

    assert found["orbital_behind_listeners",] == 2
    assert found["orbital_behind_lag_events",] == 45
    assert found["orbital_behind_lag_events_max",] == 45


def test_media(metrics, sources):
    """[MET15] Media in progress, transferred and deleted are reported; stored media after each clean-up run."""
    counters = sources.media.counters
    counters.collected["abandoned"] += 2
    before = {name for name, *_ in _samples(metrics)}
    counters.held = {MediaState.COMPLETE: MediaUsage(7, 7000), MediaState.UPLOADING: MediaUsage(0, 0)}

    found = _samples(metrics)

    assert not {"orbital_media", "orbital_media_bytes"} & before
    assert {name: value for name, value in found.items() if name[0].startswith("orbital_media")} == {
        ("orbital_media", "complete"): 7,
        ("orbital_media", "uploading"): 0,
        ("orbital_media_bytes", "complete"): 7000,
        ("orbital_media_bytes", "uploading"): 0,
        ("orbital_media_chunks_under_way",): 4,
        ("orbital_media_received_bytes_total",): 500,
        ("orbital_media_sent_bytes_total",): 9,
        ("orbital_media_collected_total", "expired"): 0,
        ("orbital_media_collected_total", "abandoned"): 2,
        ("orbital_media_collected_total", "swept"): 0,
    }


def test_requests_by_route(metrics, sources):
    """[MET4] Responses are counted by method, route and status; unknown methods share one label."""
    for _ in range(3):
        sources.counters.answered("/v1/messages", "POST", 200)
    sources.counters.answered("/v1/messages", "POST", 429)
    for number in range(50):
        sources.counters.answered("*", f"MADE-UP-{number}", 404)

    found = {name: value for name, value in _samples(metrics).items() if name[0] == "orbital_http_requests_total"}

    assert found == {
        ("orbital_http_requests_total", "POST", "/v1/messages", "200"): 3,
        ("orbital_http_requests_total", "POST", "/v1/messages", "429"): 1,
        ("orbital_http_requests_total", "other", "*", "404"): 50,
    }


def test_batches(metrics, sources):
    """[MET5] Batch sizes and times are histograms: the count at or below each bound, the total count and the sum."""
    for drafts, seconds in ((1, 0.0004), (3, 0.003), (512, 0.003), (600, 9.0)):
        sources.counters.batch(drafts, seconds)

    found = _samples(metrics)

    assert found["orbital_append_batch_drafts_bucket", "1"] == 1
    assert found["orbital_append_batch_drafts_bucket", "4"] == 2
    assert found["orbital_append_batch_drafts_bucket", "512"] == 3
    assert found["orbital_append_batch_drafts_bucket", "+Inf"] == 4
    assert found["orbital_append_batch_drafts_count",] == 4
    assert found["orbital_append_batch_drafts_sum",] == 1116
    assert found["orbital_append_seconds_bucket", "0.0025"] == 1
    assert found["orbital_append_seconds_bucket", "0.005"] == 3
    assert found["orbital_append_seconds_sum",] == pytest.approx(9.0064)


@given(st.lists(st.floats(-10, 1000)), st.lists(st.integers(-5, 900), min_size=1, unique=True).map(sorted))
def test_histogram_buckets_are_cumulative(values, bounds):
    """[MET6] A bucket counts the values at or below its bound; the last one counts all."""
    spread = Histogram(bounds)
    for value in values:
        spread.observe(value)

    assert [count for _, count in spread.buckets()] == [
        *(sum(value <= bound for value in values) for bound in bounds),
        len(values),
    ]
    assert spread.total == pytest.approx(sum(values))


def test_the_text_is_prometheus_format(metrics):
    """[MET7] The text parses, has HELP and TYPE for each name, no default series, and the right content type."""
    body, content_type = metrics.render()
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
    assert b"_created" not in body
    assert {name for name in families if not name.startswith("orbital_")} <= {
        name for name in families if name.startswith("process_")
    }


def test_two_servers_in_one_process_count_apart(sources):
    """[MET8] No metric is registered in the library's global registry."""
    other = SimpleNamespace(**{**vars(sources), "counters": ServerCounters()})
    first, second = Metrics(sources), Metrics(other)
    sources.counters.answered("/", "GET", 200)

    assert ("orbital_http_requests_total", "GET", "/", "200") in _samples(first)
    assert ("orbital_http_requests_total", "GET", "/", "200") not in _samples(second)


async def test_workers_are_labelled(sources, tmp_path: Path):
    """[MET11] A worker reports the metrics of all workers, each with the label `worker`, and does not add them up."""
    made = []
    for number in (1, 2):
        siblings = Siblings(tmp_path, number, 2)
        counters = ServerCounters()
        counters.batch(3 * number, 0.5)
        if number == 1:
            counters.answered("/", "GET", 200)
        parts = SimpleNamespace(**{**vars(sources), "counters": counters})
        made.append((siblings, Metrics(parts, siblings=siblings)))
    (first, one), (second, two) = made

    async with first.serve(one.snapshot), second.serve(two.snapshot):
        bodies = [(await metrics.render_all())[0].decode() for metrics in (one, two)]

    for body in bodies:
        families = {family.name: family for family in text_string_to_metric_families(body)}
        assert [(sample.labels, sample.value) for sample in families["orbital_connections"].samples] == [
            ({"worker": "1"}, 2),
            ({"worker": "2"}, 2),
        ]
        drafts = families["orbital_append_batch_drafts"]
        sums = [(sample.labels, sample.value) for sample in drafts.samples if sample.name.endswith("_sum")]
        assert sums == [({"worker": "1"}, 3), ({"worker": "2"}, 6)]
        (asked,) = families["orbital_http_requests"].samples
        assert asked.labels == {"worker": "1", "method": "GET", "path": "/", "status": "200"}
        for metric in METRICS:
            family = families[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name]
            assert (family.type, family.documentation) == (metric.kind, metric.help)


def test_the_state_of_the_database(sources, metrics):
    """[MET19] Version, state of the database and what is stored are gauges; no count before the first one."""
    before = _samples(metrics)
    sources.watch.connected, sources.watch.census = False, None
    after = _samples(metrics)

    assert before["orbital_build_info", "sqlite", platform.python_version(), __version__] == 1
    assert [before[f"orbital_{name}",] for name in ("users", "groups", "stored_events")] == [3, 2, 40]
    assert (before["orbital_database_connected",], after["orbital_database_connected",]) == (1, 0)
    assert not {name for name, *_ in after} & {"orbital_users", "orbital_groups", "orbital_stored_events"}


def test_the_times_of_routes(sources, metrics):
    """[MET20] Response times are a histogram by method and route; a route without requests has no series."""
    times = sources.counters.times_of("/api/groups", "GET")
    sources.counters.times_of("/api/media", "GET")
    for seconds in (0.002, 0.002, 3):
        times.observe(seconds)

    found = _samples(metrics)
    assert found["orbital_http_request_seconds_bucket", "0.0025", "GET", "/api/groups"] == 2
    assert found["orbital_http_request_seconds_count", "GET", "/api/groups"] == 3
    assert found["orbital_http_request_seconds_sum", "GET", "/api/groups"] == pytest.approx(3.004)
    assert not [key for key in found if "/api/media" in key]
    assert sources.counters.times_of("/api/groups", "GET") is times


async def test_a_worker_of_another_version_is_left_out(sources, tmp_path: Path):
    """[MET12] An unreadable snapshot of another worker is skipped; the worker's own metrics are reported."""
    metrics = Metrics(sources, siblings=Siblings(tmp_path, 1, 3))

    async with Siblings(tmp_path, 2, 3).serve(lambda: b'[["orbital_connections","gauge"'):
        body, _ = await metrics.render_all()

    assert b'orbital_connections{worker="1"} 2.0' in body
    assert b'worker="2"' not in body


def test_the_reference_is_current():
    """[MET10] docs/reference/metrics.md equals the page that the table of metrics generates, with a row for each."""
    written = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")

    assert written == room.reference(), "run: python -m orbital_relay.server.ops.metrics > docs/reference/metrics.md"
    rows = [line.split("`")[1] for line in written.splitlines() if line.startswith("| `")]
    assert rows == [metric.name for metric in METRICS]
    assert len(set(rows)) == len(rows)
    for metric in METRICS:
        assert metric.name.endswith("_total") is (metric.kind == "counter")
