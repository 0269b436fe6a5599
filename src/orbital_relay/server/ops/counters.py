"""Counters of requests, handshakes and append batches."""

from __future__ import annotations

from collections import Counter
from typing import Final

from orbital_relay.server.ops.histogram import Histogram

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServerCounters:
    """
    What a server counts that no other part of it counts. It never counts by user, group or address.

    Attributes:
        requests: HTTP answers by method, route and status.
        refusals: Refused handshakes by code.
        batch_drafts: Sizes of append batches.
        batch_seconds: Times of append batches.
        request_seconds: Times of HTTP answers by method and route, until the first byte is written.
    """

    requests: Counter[tuple[str, ...]]
    refusals: Counter[str]
    batch_drafts: Histogram
    batch_seconds: Histogram
    request_seconds: dict[tuple[str, ...], Histogram]

    def __init__(self) -> None:
        self.requests = Counter()
        self.refusals = Counter()
        # 512 is the relay's largest batch.
        self.batch_drafts = Histogram((1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
        # From a SQLite commit on a fast disk to a slow database.
        self.batch_seconds = Histogram((0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
        self.request_seconds = {}

    def batch(self, drafts: int, seconds: float) -> None:
        """Count an append batch."""
        self.batch_drafts.observe(drafts)
        self.batch_seconds.observe(seconds)

    def times_of(self, path: str, method: str) -> Histogram:
        """Return the histogram of a route, which is looked up once: the hot path only counts into it."""
        # From a cached read to a slow password hash behind a queue.
        bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
        return self.request_seconds.setdefault((method, path), Histogram(bounds))

    def answered(self, path: str, method: str, status: int) -> None:
        """
        Count an HTTP response.

        Args:
            path: The route, never the path of the request: that would be a new series for each id.
            method: As it was sent. A method that is not HTTP's own counts as `other`: clients can invent any number.
            status: Of the answer.
        """
        self.requests[method if method in _METHODS else "other", path, str(status)] += 1
