"""The one table of metrics: name, kind, help, and where each value is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from orbital_relay.core.hub import Hub
from orbital_relay.ports import Bus
from orbital_relay.relay import Relay
from orbital_relay.server.lifecycle import Lifecycle
from orbital_relay.server.ops.clock import GuardedClock
from orbital_relay.server.ops.counters import ServerCounters
from orbital_relay.server.ops.histogram import Histogram
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.services.media import MediaContext

Labelled: TypeAlias = Mapping[tuple[str, ...], float]
Reading: TypeAlias = float | Labelled | Histogram


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
        lifecycle: Whether the server is draining.
        counters: Requests, refused handshakes, append batches.
    """

    relay: Relay
    sessions: Sessions
    media: MediaContext
    clock: GuardedClock
    bus: Bus
    lifecycle: Lifecycle
    counters: ServerCounters


class Metric(msgspec.Struct, frozen=True):
    """
    One thing that is told.

    Attributes:
        name: As Prometheus shows it, with the unit.
        kind: What it is.
        help: What it counts, and what to make of it.
        read: Reads it.
        labels: What it is told apart by.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[MetricSources], Reading]
    labels: tuple[str, ...] = ()


def _by_one(counts: Mapping[str, int]) -> Labelled:
    return {(label,): count for label, count in counts.items()}


def _lags(hub: Hub) -> Iterator[int]:
    """For each listener that is behind, return how many events it has yet to be sent."""
    for listener in hub.behind:
        yield sum(max(0, each.goal - each.position) for each in listener.subscriptions.values())


METRICS: Final = (
    Metric(
        "orbital_connections",
        "gauge",
        "WebSocket connections that are open.",
        lambda m: len(m.sessions.open),
    ),
    Metric(
        "orbital_subscriptions",
        "gauge",
        "Groups that connections listen to, each pair of connection and group counted.",
        lambda m: m.relay.hub.subscriptions,
    ),
    Metric(
        "orbital_live_groups",
        "gauge",
        "Groups that somebody on this server listens to.",
        lambda m: len(m.relay.hub.groups),
    ),
    Metric(
        "orbital_events_total",
        "counter",
        "Events that were appended to the log by this server.",
        lambda m: _by_one(m.relay.counters.events),
        ("kind",),
    ),
    Metric(
        "orbital_deliveries_total",
        "counter",
        "Events written to connections: an event for a thousand listeners counts a thousand.",
        lambda m: m.relay.hub.deliveries,
    ),
    Metric(
        "orbital_behind_listeners",
        "gauge",
        "Connections that read the log instead of hearing events as they come: new, resumed, or slow ones. "
        "Staying above 0 for long means clients that cannot keep up.",
        lambda m: len(m.relay.hub.behind),
    ),
    Metric(
        "orbital_behind_lag_events",
        "gauge",
        "Events that the connections behind have yet to be sent, together.",
        lambda m: sum(_lags(m.relay.hub)),
    ),
    Metric(
        "orbital_behind_lag_events_max",
        "gauge",
        "The same, of the one that is furthest behind.",
        lambda m: max(_lags(m.relay.hub), default=0),
    ),
    Metric(
        "orbital_replayed_events_total",
        "counter",
        "Events written to connections that were behind.",
        lambda m: m.relay.counters.replayed,
    ),
    Metric(
        "orbital_replay_reads_total",
        "counter",
        "Pages of the log that were read for them.",
        lambda m: m.relay.counters.reads,
    ),
    Metric(
        "orbital_gaps_total",
        "counter",
        "Times that an event came before the one ahead of it, so that the log was read: what the bus lost or moved.",
        lambda m: m.relay.counters.gaps,
    ),
    Metric(
        "orbital_positions_lost_total",
        "counter",
        "Subscriptions whose position was no longer kept, so that they were not recovered.",
        lambda m: m.relay.counters.lost,
    ),
    Metric(
        "orbital_clock_ahead_seconds",
        "gauge",
        "By how much the wall clock is implausibly ahead, so that it is not believed; 0 when all is well.",
        lambda m: m.clock.ahead_s(),
    ),
    Metric(
        "orbital_log_rewinds_total",
        "counter",
        "Times that a group's log lost events which had been sent: a failover to a lagging replica, an old backup.",
        lambda m: m.relay.counters.restored,
    ),
    Metric(
        "orbital_append_batch_drafts",
        "histogram",
        "Drafts that were stored in one transaction. It grows with the load, and by that the server keeps up.",
        lambda m: m.counters.batch_drafts,
    ),
    Metric(
        "orbital_append_seconds",
        "histogram",
        "Seconds from taking up a batch until it was committed and handed on.",
        lambda m: m.counters.batch_seconds,
    ),
    Metric(
        "orbital_frames_in_total",
        "counter",
        "Text frames that came from clients.",
        lambda m: m.sessions.frames_in,
    ),
    Metric(
        "orbital_sent_bytes_total",
        "counter",
        "Bytes of events as they were written to connections, after compression for those that take it.",
        lambda m: m.relay.hub.bytes_out,
    ),
    Metric(
        "orbital_sent_plain_bytes_total",
        "counter",
        "The same before compression: what it would have been without.",
        lambda m: m.relay.hub.bytes_plain,
    ),
    Metric(
        "orbital_refused_handshakes_total",
        "counter",
        "WebSocket handshakes that were refused, by the code of the answer.",
        lambda m: _by_one(m.counters.refusals),
        ("code",),
    ),
    Metric(
        "orbital_cut_connections_total",
        "counter",
        "Connections that this server cut, by cause.",
        lambda m: _by_one(m.sessions.cut),
        ("cause",),
    ),
    Metric(
        "orbital_http_requests_total",
        "counter",
        "HTTP requests that were answered; `path` is the route, `*` where there is none.",
        lambda m: m.counters.requests,
        ("method", "path", "status"),
    ),
    Metric(
        "orbital_media",
        "gauge",
        "Media of all groups: `complete` ones, and `uploading` ones, which are under way. As the last round of the "
        "clean-up found them in the database, so every server tells the same: take the highest, not the sum.",
        lambda m: {(state.value,): held.media for state, held in m.media.counters.held.items()},
        ("state",),
    ),
    Metric(
        "orbital_media_bytes",
        "gauge",
        "Bytes that are stored of them.",
        lambda m: {(state.value,): held.size_bytes for state, held in m.media.counters.held.items()},
        ("state",),
    ),
    Metric(
        "orbital_media_chunks_under_way",
        "gauge",
        "Chunks that clients are sending to this server now.",
        lambda m: sum(m.media.under_way.values()),
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
        "What the clean-up of this server took away: `expired` media, `abandoned` uploads, and `swept` blobs without a "
        "row, which only a crash leaves.",
        lambda m: _by_one(m.media.counters.collected),
        ("what",),
    ),
    Metric(
        "orbital_redis_connected",
        "gauge",
        "1 while this server reaches Redis, or needs none; 0 while events of other servers arrive later.",
        lambda m: int(m.bus.connected),
    ),
    Metric(
        "orbital_draining",
        "gauge",
        "1 while the server is going down, else 0.",
        lambda m: int(m.lifecycle.draining),
    ),
)
"""Everything that is told, in the order of the reference."""
