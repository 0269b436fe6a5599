"""
What a server counts, as Prometheus reads it.

On the hot paths nothing happens but `+= 1` on plain integers, in the rooms where things happen; here they are read when
somebody asks. `METRICS` is the one table, and docs/reference/metrics.md is what `reference()` writes from it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final, Literal, Protocol, TypeAlias

import msgspec
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from orbital_relay.core.hub import Hub
from orbital_relay.model import UserId
from orbital_relay.relay import Counters
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.services.media import MediaCounters

# Chapter: where the numbers are


class Sessions(Protocol):
    """What is read of the connections."""

    @property
    def open(self) -> AbstractSet[object]:
        """Those that are open."""
        ...

    @property
    def frames_in(self) -> int:
        """Text frames that came from clients."""
        ...

    @property
    def cut(self) -> Mapping[str, int]:
        """Connections that the server cut, by cause."""
        ...


class Relay(Protocol):
    """What is read of the relay."""

    @property
    def hub(self) -> Hub:
        """Who listens here."""
        ...

    @property
    def counters(self) -> Counters:
        """What it counts."""
        ...


class Media(Protocol):
    """What is read of media."""

    @property
    def under_way(self) -> Mapping[UserId, int]:
        """How many chunks each user is sending."""
        ...

    @property
    def counters(self) -> MediaCounters:
        """What it counts."""
        ...


class Guarded(Protocol):
    """What is read of a server's clock."""

    def ahead_s(self) -> float:
        """Return by how many seconds the machine's clock is implausibly ahead."""
        ...


class Reach(Protocol):
    """What is read of the bus."""

    @property
    def connected(self) -> bool:
        """Whether hints reach other servers now."""
        ...


class Node(Protocol):
    """What is read of a server."""

    @property
    def bus(self) -> Reach:
        """Its way to the other servers."""
        ...

    @property
    def media(self) -> Media:
        """Its media."""
        ...

    @property
    def sessions(self) -> Sessions:
        """Its connections."""
        ...

    @property
    def relay(self) -> Relay:
        """Its relay."""
        ...

    @property
    def clock(self) -> Guarded:
        """Its clock."""
        ...

    @property
    def refusals(self) -> Mapping[str, int]:
        """Refused handshakes by code."""
        ...

    @property
    def draining(self) -> bool:
        """Whether it is going down."""
        ...


class Histogram:
    """
    How often a value fell where: a histogram of plain integers, without the library's lock.

    Args:
        bounds: Upper bounds of the buckets, rising; a value equal to one is in its bucket. The last is infinity.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many values were at or below each bound, as Prometheus adds them up."""
        found = []
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(below)))
        return found


# Chapter: the table

Labelled: TypeAlias = Mapping[tuple[str, ...], float]
Reading: TypeAlias = float | Labelled | Histogram


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
    read: Callable[[Metrics], Reading]
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
        lambda m: len(m.node.sessions.open),
    ),
    Metric(
        "orbital_subscriptions",
        "gauge",
        "Groups that connections listen to, each pair of connection and group counted.",
        lambda m: m.node.relay.hub.subscriptions,
    ),
    Metric(
        "orbital_live_groups",
        "gauge",
        "Groups that somebody on this server listens to.",
        lambda m: len(m.node.relay.hub.groups),
    ),
    Metric(
        "orbital_events_total",
        "counter",
        "Events that were appended to the log by this server.",
        lambda m: _by_one(m.node.relay.counters.events),
        ("kind",),
    ),
    Metric(
        "orbital_deliveries_total",
        "counter",
        "Events written to connections: an event for a thousand listeners counts a thousand.",
        lambda m: m.node.relay.hub.deliveries,
    ),
    Metric(
        "orbital_behind_listeners",
        "gauge",
        "Connections that read the log instead of hearing events as they come: new, resumed, or slow ones. "
        "Staying above 0 for long means clients that cannot keep up.",
        lambda m: len(m.node.relay.hub.behind),
    ),
    Metric(
        "orbital_behind_lag_events",
        "gauge",
        "Events that the connections behind have yet to be sent, together.",
        lambda m: sum(_lags(m.node.relay.hub)),
    ),
    Metric(
        "orbital_behind_lag_events_max",
        "gauge",
        "The same, of the one that is furthest behind.",
        lambda m: max(_lags(m.node.relay.hub), default=0),
    ),
    Metric(
        "orbital_replayed_events_total",
        "counter",
        "Events written to connections that were behind.",
        lambda m: m.node.relay.counters.replayed,
    ),
    Metric(
        "orbital_replay_reads_total",
        "counter",
        "Pages of the log that were read for them.",
        lambda m: m.node.relay.counters.reads,
    ),
    Metric(
        "orbital_gaps_total",
        "counter",
        "Times that an event came before the one ahead of it, so that the log was read: what the bus lost or moved.",
        lambda m: m.node.relay.counters.gaps,
    ),
    Metric(
        "orbital_positions_lost_total",
        "counter",
        "Subscriptions whose position was no longer kept, so that they were not recovered.",
        lambda m: m.node.relay.counters.lost,
    ),
    Metric(
        "orbital_clock_ahead_seconds",
        "gauge",
        "By how much the wall clock is implausibly ahead, so that it is not believed; 0 when all is well.",
        lambda m: m.node.clock.ahead_s(),
    ),
    Metric(
        "orbital_log_rewinds_total",
        "counter",
        "Times that a group's log lost events which had been sent: a failover to a lagging replica, an old backup.",
        lambda m: m.node.relay.counters.restored,
    ),
    Metric(
        "orbital_append_batch_drafts",
        "histogram",
        "Drafts that were stored in one transaction. It grows with the load, and by that the server keeps up.",
        lambda m: m.batch_drafts,
    ),
    Metric(
        "orbital_append_seconds",
        "histogram",
        "Seconds from taking up a batch until it was committed and handed on.",
        lambda m: m.batch_seconds,
    ),
    Metric(
        "orbital_frames_in_total",
        "counter",
        "Text frames that came from clients.",
        lambda m: m.node.sessions.frames_in,
    ),
    Metric(
        "orbital_sent_bytes_total",
        "counter",
        "Bytes of events as they were written to connections, after compression for those that take it.",
        lambda m: m.node.relay.hub.bytes_out,
    ),
    Metric(
        "orbital_sent_plain_bytes_total",
        "counter",
        "The same before compression: what it would have been without.",
        lambda m: m.node.relay.hub.bytes_plain,
    ),
    Metric(
        "orbital_refused_handshakes_total",
        "counter",
        "WebSocket handshakes that were refused, by the code of the answer.",
        lambda m: _by_one(m.node.refusals),
        ("code",),
    ),
    Metric(
        "orbital_cut_connections_total",
        "counter",
        "Connections that this server cut, by cause.",
        lambda m: _by_one(m.node.sessions.cut),
        ("cause",),
    ),
    Metric(
        "orbital_http_requests_total",
        "counter",
        "HTTP requests that were answered; `path` is the route, `*` where there is none.",
        lambda m: m.requests,
        ("method", "path", "status"),
    ),
    Metric(
        "orbital_media",
        "gauge",
        "Media of all groups: `complete` ones, and `uploading` ones, which are under way. As the last round of the "
        "clean-up found them in the database, so every server tells the same: take the highest, not the sum.",
        lambda m: {(state.value,): held.media for state, held in m.node.media.counters.held.items()},
        ("state",),
    ),
    Metric(
        "orbital_media_bytes",
        "gauge",
        "Bytes that are stored of them.",
        lambda m: {(state.value,): held.size_bytes for state, held in m.node.media.counters.held.items()},
        ("state",),
    ),
    Metric(
        "orbital_media_chunks_under_way",
        "gauge",
        "Chunks that clients are sending to this server now.",
        lambda m: sum(m.node.media.under_way.values()),
    ),
    Metric(
        "orbital_media_received_bytes_total",
        "counter",
        "Bytes of chunks that this server stored.",
        lambda m: m.node.media.counters.received_bytes,
    ),
    Metric(
        "orbital_media_sent_bytes_total",
        "counter",
        "Bytes of media that this server sent.",
        lambda m: m.node.media.counters.sent_bytes,
    ),
    Metric(
        "orbital_media_collected_total",
        "counter",
        "What the clean-up of this server took away: `expired` media, `abandoned` uploads, and `swept` blobs without a "
        "row, which only a crash leaves.",
        lambda m: _by_one(m.node.media.counters.collected),
        ("what",),
    ),
    Metric(
        "orbital_redis_connected",
        "gauge",
        "1 while this server reaches Redis, or needs none; 0 while events of other servers arrive later.",
        lambda m: int(m.node.bus.connected),
    ),
    Metric(
        "orbital_draining",
        "gauge",
        "1 while the server is going down, else 0.",
        lambda m: int(m.node.draining),
    ),
)
"""Everything that is told, in the order of the reference."""

# Chapter: counting and telling

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """
    The server's numbers. It never counts by user, group or address: nobody's life can be read off it.

    Attributes:
        siblings: The workers beside this one, whose numbers are told, too; None when there are none.
        requests: HTTP answers by method, route and status.
        batch_drafts: Sizes of append batches.
        batch_seconds: Times of append batches.
    """

    siblings: Siblings | None
    requests: Counter[tuple[str, ...]]
    batch_drafts: Histogram
    batch_seconds: Histogram

    def __init__(self) -> None:
        self.siblings = None
        self.requests = Counter()
        # 512 is the relay's largest batch.
        self.batch_drafts = Histogram((1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
        # From a SQLite commit on a fast disk to a database that makes people wait.
        self.batch_seconds = Histogram((0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
        self._node: Node | None = None
        # A registry of our own: another one in this process tells nothing of ours.
        self._registry = CollectorRegistry()
        self._registry.register(_Reader(self))
        # Memory, processor time, open files, by the conventional names; only where there is /proc.
        ProcessCollector(registry=self._registry)

    @property
    def node(self) -> Node:
        """The server that is told of."""
        if self._node is None:
            raise AssertionError("watch() comes before render()")
        return self._node

    def watch(self, node: Node) -> None:
        """Say which server to read."""
        self._node = node

    def batch(self, drafts: int, seconds: float) -> None:
        """Count an append batch."""
        self.batch_drafts.observe(drafts)
        self.batch_seconds.observe(seconds)

    def answered(self, path: str, method: str, status: int) -> None:
        """
        Count an HTTP answer.

        Args:
            path: The route, never what stood in its place: that would be a new number for each id.
            method: As it was sent; one that is not HTTP's own counts as `other`, for clients can make up any number.
            status: Of the answer.
        """
        self.requests[method if method in _METHODS else "other", path, str(status)] += 1

    def render(self) -> tuple[bytes, str]:
        """Return all numbers in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    async def render_all(self) -> tuple[bytes, str]:
        """Do as `render`, for all workers of this machine when it is one of several: each series has its `worker`."""
        if self.siblings is None:
            return self.render()
        own = {self.siblings.number: self.snapshot()}
        registry = CollectorRegistry()
        registry.register(_Together(own | await self.siblings.ask()))
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def snapshot(self) -> bytes:
        """Return all numbers as another worker reads them."""
        return msgspec.json.encode(
            [
                Told(
                    family.name,
                    family.type,
                    family.documentation,
                    [(sample.name, sample.labels, sample.value) for sample in family.samples],
                )
                for family in self._registry.collect()
            ]
        )


class Told(msgspec.Struct, array_like=True):
    """One metric of one worker, on its way to another: the samples are name, labels and value."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]


_decode_told = msgspec.json.Decoder(list[Told]).decode


class _Together(Collector):
    """
    What several workers told, each sample labelled by whose it is.

    They are not added up: a worker that is replaced begins at 0, and a sum that falls would look like a burst.
    """

    def __init__(self, told: Mapping[int, bytes]) -> None:
        self._told = told

    def collect(self) -> Iterator[Family]:
        """Put the samples of each metric together, in the order of the workers."""
        families: dict[str, Family] = {}
        for number, snapshot in sorted(self._told.items()):
            # One that ended while it told, or is of another version, is left out.
            with suppress(msgspec.DecodeError):
                for one in _decode_told(snapshot):
                    family = families.setdefault(one.name, Family(one.name, one.help, one.kind))
                    for name, labels, value in one.samples:
                        family.add_sample(name, {"worker": str(number), **labels}, value)
        yield from families.values()


class _Reader(Collector):
    """Reads the table whenever the registry is asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Family]:
        """Name nothing ahead: there may be no server to read yet."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Read."""
        for metric in METRICS:
            yield _family(metric, metric.read(self._metrics))


def _family(metric: Metric, reading: Reading) -> Family:
    if isinstance(reading, Histogram):
        spread = HistogramMetricFamily(metric.name, metric.help)
        spread.add_metric([], reading.buckets(), reading.total)
        return spread
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    if isinstance(reading, Mapping):
        # A copy: the rooms go on counting.
        for labels, value in list(reading.items()):
            family.add_metric(labels, value)
    else:
        family.add_metric([], reading)
    return family


# Chapter: the reference


def reference() -> str:
    """Write docs/reference/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "<!-- Made by `python -m orbital_relay.server.ops.metrics > docs/reference/metrics.md` from its table. -->",
        "",
        "`GET /metrics` tells them in Prometheus' text format, of this server alone and since it started.",
        "With `--workers` it tells those of all workers, whichever answers; the label `worker`, from 1, is whose.",
        "`sum without (worker) (orbital_connections)` is the whole.",
        "They are not added up, so that `rate()` sees a worker begin anew when it is replaced.",
        "A worker that does not answer within a second is left out; `count(orbital_draining)` shows how many did.",
        "It needs no token: let your proxy keep it from strangers.",
        "Nothing is told by user, group or address.",
        "Beside these there are the conventional `process_…` ones, on Linux: memory, processor time, open files.",
        "",
        "| name | kind | told apart by | what it tells |",
        "| --- | --- | --- | --- |",
    ]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
