"""Quiet hours."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from orbital_relay.model import QuietHours
from orbital_relay.server.push.quiet import quiet_until_ms

BERLIN = ZoneInfo("Europe/Berlin")


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-05-04T21:59:59", None),
        ("2026-05-04T22:00:00", "2026-05-05T07:00:00"),
        ("2026-05-05T06:59:59", "2026-05-05T07:00:00"),
        ("2026-05-05T07:00:00", None),
        # The clock goes from 2:00 to 3:00, and back from 3:00 to 2:00.
        ("2026-03-28T23:00:00", "2026-03-29T07:00:00"),
        ("2026-10-24T23:00:00", "2026-10-25T07:00:00"),
    ],
)
def test_over_midnight(now: str, until: str | None):
    """[PUSH3] Quiet hours over midnight apply in the evening and in the morning, also when the clock changes."""
    quiet = QuietHours("22:00", "07:00", "Europe/Berlin")

    assert quiet_until_ms(quiet, now_ms=_ms(now)) == (0 if until is None else _ms(until))


@pytest.mark.parametrize(("now", "until"), [("12:59", None), ("13:00", "14:30"), ("14:29", "14:30"), ("14:30", None)])
def test_within_a_day(now: str, until: str | None):
    """[PUSH3] Quiet hours within a day begin and end on it."""
    quiet = QuietHours("13:00", "14:30", "Europe/Berlin")

    expected = 0 if until is None else _ms(f"2026-05-04T{until}:00")
    assert quiet_until_ms(quiet, now_ms=_ms(f"2026-05-04T{now}:00")) == expected


def test_no_hours():
    """[PUSH3] Hours that begin when they end are no quiet hours."""
    assert quiet_until_ms(QuietHours("07:00", "07:00", "Europe/Berlin"), now_ms=_ms("2026-05-04T07:00:00")) == 0
