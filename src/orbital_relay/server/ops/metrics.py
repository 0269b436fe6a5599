"""
What a server counts, as Prometheus reads it.

On the hot paths nothing happens but `+= 1` on plain integers, in the rooms where things happen; they are read here when
Prometheus asks. metric_table.py is the one table, and docs/reference/metrics.md is what `reference()` writes from it.
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

from orbital_relay.server.ops.histogram import Histogram
from orbital_relay.server.ops.metric_table import METRICS, Metric, MetricSources, Reading
from orbital_relay.server.ops.worker_metrics import Siblings


class Metrics:
    """
    The server's metrics in Prometheus' format. It never reports by user, group or address.

    Args:
        sources: What is read.
        siblings: The workers beside this one, whose metrics are reported too; None when there are none.
    """

    def __init__(self, sources: MetricSources, *, siblings: Siblings | None = None) -> None:
        self._siblings = siblings
        # A registry of our own: the global one would show the metrics of other libraries in this process.
        self._registry = CollectorRegistry()
        self._registry.register(_Reader(sources))
        # Memory, processor time, open files, by the conventional names; only where there is /proc.
        ProcessCollector(registry=self._registry)

    def render(self) -> tuple[bytes, str]:
        """Return all numbers in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    async def render_all(self) -> tuple[bytes, str]:
        """Do as `render`, for all workers of this machine when it is one of several: each series has its `worker`."""
        if self._siblings is None:
            return self.render()
        own = {self._siblings.number: self.snapshot()}
        registry = CollectorRegistry()
        registry.register(_Together(own | await self._siblings.ask()))
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

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Family]:
        """Describe nothing: the library would only check for two metrics of one name, and the table has none."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Read."""
        for metric in METRICS:
            yield _family(metric, metric.read(self._sources))


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
