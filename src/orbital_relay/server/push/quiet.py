"""Quiet hours: a device's hours without push messages."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from orbital_relay.model import QuietHours


def quiet_until_ms(quiet: QuietHours, *, now_ms: int) -> int:
    """
    Return when the quiet hours that are now end, in milliseconds since the epoch; 0 outside of them.

    Hours of which begin and end are the same are none.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: If the zone is unknown on this machine.
    """
    zone = ZoneInfo(quiet.time_zone)
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    start, end = time.fromisoformat(quiet.start), time.fromisoformat(quiet.end)
    # Those that began yesterday may continue.
    for days in (-1, 0):
        day = now.date() + timedelta(days=days)
        begins = datetime.combine(day, start, zone)
        ends = datetime.combine(day if start <= end else day + timedelta(days=1), end, zone)
        if begins <= now < ends:
            return int(ends.timestamp() * 1000)
    return 0
