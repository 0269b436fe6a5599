"""
Exposition of metrics in Prometheus' text format.

The hot paths only do `+= 1` on plain integers, in the modules that count; this module reads them when Prometheus
scrapes. metric_table.py is the one table, and `reference()` generates docs/reference/metrics.md from it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from orbital_relay.server.ops.histogram import Histogram, LabelledHistograms
from orbital_relay.server.ops.metric_table import METRICS, Metric, MetricSources, Reading
from orbital_relay.server.ops.worker_metrics import Siblings


class Metrics:
    """
    The server's metrics in Prometheus' format. It never reports by user, group or address.

    Args:
        sources: What is read.
        siblings: The other workers of this machine, whose metrics are reported too; None without `--workers`.
    """

    def __init__(self, sources: MetricSources, *, siblings: Siblings | None = None) -> None:
        self._siblings = siblings
        self._sessions = sources.sessions
        # A registry of our own: the global one would show the metrics of other libraries in this process.
        self._registry = CollectorRegistry()
        self._registry.register(_MetricsCollector(sources))
        # Memory, processor time and open files, under the conventional names; only where /proc exists.
        ProcessCollector(registry=self._registry)

    @property
    def connections(self) -> int:
        """How many WebSockets are open at this server."""
        return len(self._sessions.open)

    def render(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    async def render_all(self) -> tuple[bytes, str]:
        """Render the metrics of all workers of this machine, each series with the label `worker`."""
        if self._siblings is None:
            return self.render()
        own = {self._siblings.number: self.snapshot()}
        registry = CollectorRegistry()
        registry.register(_AllWorkers(own | await self._siblings.fetch()))
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def snapshot(self) -> bytes:
        """Return all metrics encoded for another worker."""
        return msgspec.json.encode(
            [
                MetricSnapshot(
                    family.name,
                    family.type,
                    family.documentation,
                    [(sample.name, sample.labels, sample.value) for sample in family.samples],
                )
                for family in self._registry.collect()
            ]
        )


class MetricSnapshot(msgspec.Struct, array_like=True):
    """One metric of one worker, encoded for another worker: the samples are name, labels and value."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]


_decode_snapshots = msgspec.json.Decoder(list[MetricSnapshot]).decode


class _AllWorkers(Collector):
    """
    The metrics of several workers, each sample labelled with its worker.

    They are not summed: a replaced worker restarts at 0, and a sum that falls would look like a counter reset.
    """

    def __init__(self, snapshots: Mapping[int, bytes]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Family]:
        """Merge the samples of each metric, in the order of the workers."""
        families: dict[str, Family] = {}
        for number, snapshot in sorted(self._snapshots.items()):
            # A snapshot that is cut short, or of another version, is skipped.
            with suppress(msgspec.DecodeError):
                for one in _decode_snapshots(snapshot):
                    family = families.setdefault(one.name, Family(one.name, one.help, one.kind))
                    for name, labels, value in one.samples:
                        family.add_sample(name, {"worker": str(number), **labels}, value)
        yield from families.values()


class _MetricsCollector(Collector):
    """Reads the table whenever the registry collects."""

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Family]:
        """Describe nothing: the library would only check for two metrics of one name, and the table has none."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Read every metric of the table."""
        for metric in METRICS:
            yield _family(metric, metric.read(self._sources))


def _family(metric: Metric, reading: Reading) -> Family:
    if isinstance(reading, Histogram | LabelledHistograms):
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, one in reading.by_labels.items() if isinstance(reading, LabelledHistograms) else [((), reading)]:
            # A route that nobody asked for would only make the answer longer.
            if any(one.counts) or not labels:
                histogram.add_metric(labels, one.buckets(), one.total)
        return histogram
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    if isinstance(reading, Mapping):
        # A copy: counting continues meanwhile.
        for labels, value in list(reading.items()):
            family.add_metric(labels, value)
    else:
        family.add_metric([], reading)
    return family


# Chapter: the reference


def reference() -> str:
    """Return the text of docs/reference/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "<!-- Generated by `python -m orbital_relay.server.ops.metrics > docs/reference/metrics.md`. -->",
        "",
        "`GET /metrics` returns the metrics of this server in Prometheus' text format, counted since it started.",
        "With `--workers`, any worker returns the metrics of all; the label `worker`, from 1, names the worker.",
        "`sum without (worker) (orbital_connections)` is the total.",
        "They are not summed, so that `rate()` sees the counter reset of a worker that was replaced.",
        "A worker that does not answer within a second is left out; `count(orbital_draining)` is the number that did.",
        "The path needs no token: block it in your reverse proxy for everyone but Prometheus.",
        "No metric has a label for a user, a group or an address.",
        "On Linux there are also the conventional `process_…` metrics: memory, processor time, open files.",
        "",
        "| name | type | labels | description |",
        "| --- | --- | --- | --- |",
    ]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
