"""Intervals and batch sizes of the periodic jobs: retention, clean-up of media, revocation, clock heartbeat."""

from __future__ import annotations

from typing import Final

DAY_MS: Final = 24 * 3600 * 1000
HOUR_MS: Final = 3600 * 1000
SWEEP_S: Final = 3600.0
"""How often the media storage is scanned for blobs without a row, which only a crash leaves behind."""
REVOCATION_CHECK_S: Final = 2.0
"""How often revocations made elsewhere are read from the store, since the bus may lose the notification."""
WATCH_S: Final = 5.0
"""How often the database is asked whether it answers, for the metrics and the log."""
COUNT_S: Final = 60.0
"""How often users, groups and events are counted."""
COMPARE_S: Final = 5.0
"""Time between two comparisons of the live groups' heads with the store, when there are other servers."""
CLOCK_BEAT_S: Final = 60.0
"""How often the clock is checked and its heartbeat stored, or as often as the log is pruned if that is sooner."""
CLOSE_WAIT_S: Final = 2.0
"""How long a shutdown waits for clients to answer the Close."""
