"""The context of the media use cases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec

from orbital_relay.model import (
    AnyDraft,
    MediaLimits,
    MediaState,
    UserId,
)
from orbital_relay.ports import Appended, Blobs, Clock, Limiter, MediaRows, MediaUsage


class MediaCounters(msgspec.Struct):
    """
    What a server counts of media.

    Attributes:
        received_bytes: Bytes of chunks that it stored.
        sent_bytes: Bytes of media that it sent.
        collected: What its clean-up deleted: `expired` media, `abandoned` uploads, `swept` blobs without a row.
        held: What there was of all groups together at its last round; empty before the first.
    """

    received_bytes: int = 0
    sent_bytes: int = 0
    collected: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(("expired", "abandoned", "swept"), 0)
    )
    held: dict[MediaState, MediaUsage] = {}


class MediaContext(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the use cases of media work with.

    Attributes:
        rows: What is known of media.
        blobs: Their bytes.
        append: Queues a draft; see `ServiceContext.append`.
        clock: The time.
        limits: How much room there is.
        limiter: Counts the uploads that begin.
        uploads_an_hour: How many one user may begin in an hour.
        envelope_bytes: Largest encrypted field, in bytes after decoding.
        keep_ms: How long a medium is kept.
        abandon_ms: How long an upload may be idle before it is abandoned.
        started_ms: When this server began.
        alone: Whether no other server writes the same media.
        in_progress: How many chunks each user is sending to this server now.
        counters: What this server counts.
    """

    rows: MediaRows
    blobs: Blobs
    append: Callable[[AnyDraft], asyncio.Future[Appended]]
    clock: Clock
    limits: MediaLimits
    limiter: Limiter
    uploads_an_hour: int
    envelope_bytes: int
    keep_ms: int
    abandon_ms: int
    started_ms: int
    alone: bool
    in_progress: Counter[UserId] = msgspec.field(default_factory=Counter)
    counters: MediaCounters = msgspec.field(default_factory=MediaCounters)
