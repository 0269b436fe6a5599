"""The one table of metrics: metric name, kind, help, and where each value is read."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from orbital_relay import __version__
from orbital_relay.core.hub import Hub
from orbital_relay.ports import Bus, Census
from orbital_relay.relay import Relay
from orbital_relay.server.lifecycle import Lifecycle
from orbital_relay.server.ops.clock import GuardedClock
from orbital_relay.server.ops.counters import ServerCounters
from orbital_relay.server.ops.disk import Disk
from orbital_relay.server.ops.histogram import Histogram, LabelledHistograms
from orbital_relay.server.ops.store_watch import StoreWatch
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.services.media_context import MediaContext

Labelled: TypeAlias = Mapping[tuple[str, ...], float]
Reading: TypeAlias = float | Labelled | Histogram | LabelledHistograms


@dataclass(frozen=True, slots=True)
class MetricSources:
    """
    The parts of a server whose counters are read.

    Attributes:
        relay: Events, deliveries, lags.
        sessions: Connections.
        media: Uploads and downloads.
        clock: How far the machine's clock is ahead.
        bus: Whether Redis answers.
        database: The kind of database, `sqlite` or `postgresql`.
        lifecycle: Whether the server is draining.
        counters: Requests, refused handshakes, append batches.
        pushed: Push messages by result.
        disk: The room on the disk of the data folder.
        watch: Whether the database answers, and how much it stores.
    """

    relay: Relay
    sessions: Sessions
    media: MediaContext
    clock: GuardedClock
    bus: Bus
    database: str
    lifecycle: Lifecycle
    counters: ServerCounters
    pushed: Mapping[str, int]
    disk: Disk
    watch: StoreWatch


class Metric(msgspec.Struct, frozen=True):
    """
    One metric.

    Attributes:
        name: The name in Prometheus, with the unit.
        kind: Its type in Prometheus.
        help: What it counts, and how to interpret it.
        read: Returns the current value.
        labels: The names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[MetricSources], Reading]
    labels: tuple[str, ...] = ()


def _by_one(counts: Mapping[str, int]) -> Labelled:
    return {(label,): count for label, count in counts.items()}


def _lags(hub: Hub) -> Iterator[int]:
    """Yield for each listener that is behind how many events it has yet to receive."""
    for listener in hub.behind:
        yield sum(max(0, each.goal - each.position) for each in listener.subscriptions.values())


def _stored(watch: StoreWatch, read: Callable[[Census], int]) -> Labelled:
    """Return one count of the database; nothing before the first count, which 0 would falsify."""
    return {} if watch.census is None else {(): read(watch.census)}


METRICS: Final = (
    Metric(
        "orbital_build_info",
        "gauge",
        "Always 1; the labels are the version of Orbital, of Python, and the kind of database.",
        lambda m: {(__version__, platform.python_version(), m.database): 1},
        ("version", "python", "database"),
    ),
    Metric(
        "orbital_database_connected",
        "gauge",
        "1 while the database answers and can store, as this server finds out every five seconds; else 0.",
        lambda m: int(m.watch.connected),
    ),
    Metric(
        "orbital_users",
        "gauge",
        "Accounts in the database, counted every minute. Every server reports the same value: use the maximum.",
        lambda m: _stored(m.watch, lambda census: census.users),
    ),
    Metric(
        "orbital_groups",
        "gauge",
        "Groups in the database, counted every minute. Every server reports the same value: use the maximum.",
        lambda m: _stored(m.watch, lambda census: census.groups),
    ),
    Metric(
        "orbital_stored_events",
        "gauge",
        "Events in the logs of all groups, counted every minute. Every server reports the same value: use the maximum.",
        lambda m: _stored(m.watch, lambda census: census.events),
    ),
    Metric(
        "orbital_disk_free_bytes",
        "gauge",
        "Free bytes on the disk of the data folder, as a server without root's rights can use them.",
        lambda m: m.disk.free_bytes(),
    ),
    Metric(
        "orbital_disk_reserve_bytes",
        "gauge",
        "Free bytes below which media are refused with 507 (`ORBITAL_DISK_RESERVE_BYTES`).",
        lambda m: m.disk.reserve_bytes,
    ),
    Metric(
        "orbital_connections",
        "gauge",
        "Open WebSocket connections.",
        lambda m: len(m.sessions.open),
    ),
    Metric(
        "orbital_subscriptions",
        "gauge",
        "Subscriptions: each pair of a connection and a group counts once.",
        lambda m: m.relay.hub.subscriptions,
    ),
    Metric(
        "orbital_live_groups",
        "gauge",
        "Groups with at least one subscriber on this server.",
        lambda m: len(m.relay.hub.groups),
    ),
    Metric(
        "orbital_events_total",
        "counter",
        "Events that this server appended to the log.",
        lambda m: _by_one(m.relay.counters.events),
        ("kind",),
    ),
    Metric(
        "orbital_deliveries_total",
        "counter",
        "Events written to connections: an event for a thousand subscribers counts a thousand.",
        lambda m: m.relay.hub.deliveries,
    ),
    Metric(
        "orbital_behind_listeners",
        "gauge",
        "Connections that are behind, so that they read from the log instead of live events: new, resumed or slow "
        "ones. A value that stays above 0 means clients that cannot keep up (backpressure).",
        lambda m: len(m.relay.hub.behind),
    ),
    Metric(
        "orbital_behind_lag_events",
        "gauge",
        "Events that all connections that are behind have yet to receive.",
        lambda m: sum(_lags(m.relay.hub)),
    ),
    Metric(
        "orbital_behind_lag_events_max",
        "gauge",
        "Events that the connection furthest behind has yet to receive.",
        lambda m: max(_lags(m.relay.hub), default=0),
    ),
    Metric(
        "orbital_replayed_events_total",
        "counter",
        "Events replayed from the log to connections that were behind.",
        lambda m: m.relay.counters.replayed,
    ),
    Metric(
        "orbital_replay_reads_total",
        "counter",
        "Reads of the log for replays; one may return a page of each of many groups.",
        lambda m: m.relay.counters.reads,
    ),
    Metric(
        "orbital_gaps_total",
        "counter",
        "Gaps in the events from the bus, which lost or reordered messages, so that the log was read instead.",
        lambda m: m.relay.counters.gaps,
    ),
    Metric(
        "orbital_positions_lost_total",
        "counter",
        "Subscriptions that were not recovered, since their position is no longer retained.",
        lambda m: m.relay.counters.lost,
    ),
    Metric(
        "orbital_clock_ahead_seconds",
        "gauge",
        "Seconds by which the wall clock is implausibly ahead, so that it is not used; 0 in normal operation.",
        lambda m: m.clock.ahead_s(),
    ),
    Metric(
        "orbital_log_rewinds_total",
        "counter",
        "Times that a group's log lost events that had been sent: a failover to a lagging replica, an old backup.",
        lambda m: m.relay.counters.restored,
    ),
    Metric(
        "orbital_append_batch_drafts",
        "histogram",
        "Events stored in one transaction. The batch grows with the load, which raises the throughput.",
        lambda m: m.counters.batch_drafts,
    ),
    Metric(
        "orbital_append_seconds",
        "histogram",
        "Seconds from the start of a batch until it was committed and delivered.",
        lambda m: m.counters.batch_seconds,
    ),
    Metric(
        "orbital_frames_in_total",
        "counter",
        "Text frames received from clients.",
        lambda m: m.sessions.frames_in,
    ),
    Metric(
        "orbital_sent_bytes_total",
        "counter",
        "Bytes of events written to connections, after compression where it was negotiated.",
        lambda m: m.relay.hub.bytes_out,
    ),
    Metric(
        "orbital_sent_plain_bytes_total",
        "counter",
        "Bytes of the same events before compression.",
        lambda m: m.relay.hub.bytes_plain,
    ),
    Metric(
        "orbital_refused_handshakes_total",
        "counter",
        "Refused WebSocket handshakes, by the error code of the response.",
        lambda m: _by_one(m.counters.refusals),
        ("code",),
    ),
    Metric(
        "orbital_push_messages_total",
        "counter",
        "Push messages by result: `sent`, `gone` (the endpoint no longer exists), `large` or `failed`.",
        lambda m: _by_one(m.pushed),
        ("result",),
    ),
    Metric(
        "orbital_cut_connections_total",
        "counter",
        "Connections that this server closed, by cause.",
        lambda m: _by_one(m.sessions.cut),
        ("cause",),
    ),
    Metric(
        "orbital_http_requests_total",
        "counter",
        "Answered HTTP requests; `path` is the route, `*` if no route matches.",
        lambda m: m.counters.requests,
        ("method", "path", "status"),
    ),
    Metric(
        "orbital_http_request_seconds",
        "histogram",
        "Seconds from a request's arrival until its answer begins, by route; that of an upload includes its body, and "
        "that of a request that waits for something includes the wait.",
        lambda m: LabelledHistograms(m.counters.request_seconds),
        ("method", "path"),
    ),
    Metric(
        "orbital_media",
        "gauge",
        "Media of all groups, `complete` or `uploading`, as the last clean-up counted them in the database. Every "
        "server reports the same value: use the maximum, not the sum.",
        lambda m: {(state.value,): held.media for state, held in m.media.counters.held.items()},
        ("state",),
    ),
    Metric(
        "orbital_media_bytes",
        "gauge",
        "Bytes stored of these media.",
        lambda m: {(state.value,): held.size_bytes for state, held in m.media.counters.held.items()},
        ("state",),
    ),
    Metric(
        "orbital_media_chunks_under_way",
        "gauge",
        "Chunks that clients are uploading to this server now.",
        lambda m: sum(m.media.in_progress.values()),
    ),
    Metric(
        "orbital_media_received_bytes_total",
        "counter",
        "Bytes of chunks that this server stored.",
        lambda m: m.media.counters.received_bytes,
    ),
    Metric(
        "orbital_media_sent_bytes_total",
        "counter",
        "Bytes of media that this server sent.",
        lambda m: m.media.counters.sent_bytes,
    ),
    Metric(
        "orbital_media_collected_total",
        "counter",
        "Media that this server's clean-up deleted: `expired` media, `abandoned` uploads, and `swept` blobs without a "
        "row, which only a crash leaves behind.",
        lambda m: _by_one(m.media.counters.collected),
        ("what",),
    ),
    Metric(
        "orbital_redis_connected",
        "gauge",
        "1 while this server is connected to Redis, or is configured without; 0 while events of other servers are "
        "delayed.",
        lambda m: int(m.bus.connected),
    ),
    Metric(
        "orbital_draining",
        "gauge",
        "1 while the server is shutting down, else 0.",
        lambda m: int(m.lifecycle.draining),
    ),
)
"""All metrics, in the order of the reference."""
