"""A histogram of plain integers, for the hot paths."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Histogram:
    """
    A histogram of plain integers, without the library's lock.

    Args:
        bounds: Upper bounds of the buckets, ascending and inclusive. A last bucket up to infinity is added.
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
        """Return the number of values at or below each bound: cumulative, as Prometheus expects."""
        found = []
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(below)))
        return found


@dataclass(frozen=True, slots=True)
class LabelledHistograms:
    """
    Histograms of one metric by the values of its labels.

    Attributes:
        by_labels: The histograms; no label is added while they are read.
    """

    by_labels: Mapping[tuple[str, ...], Histogram]
