"""Ranges and conditions of a download, as RFC 9110 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.errors import RangeNotSatisfiable
from orbital_relay.server.http.download import matches, parse_range

SIZES = st.integers(1, 10**10)


@given(size=SIZES, first=st.integers(0, 10**11), length=st.none() | st.integers(1, 10**11))
def test_a_range_is_within_the_medium(size: int, first: int, length: int | None):
    """[MED9] A range from a byte on yields the rest of the medium, or is not satisfiable."""
    header = f"bytes={first}-{'' if length is None else first + length - 1}"
    if first >= size:
        with pytest.raises(RangeNotSatisfiable) as refusal:
            parse_range(header, size)
        assert refusal.value.headers == {"Content-Range": f"bytes */{size}"}
        return

    end = size if length is None else min(first + length, size)
    assert parse_range(header, size) == (first, end)


@given(size=SIZES, count=st.integers(1, 10**11))
def test_a_range_from_the_end(size: int, count: int):
    """[MED9] A suffix range yields the last bytes, or the whole medium if it is shorter."""
    assert parse_range(f"bytes=-{count}", size) == (max(size - count, 0), size)


@given(st.text(max_size=30))
def test_any_header_is_a_range_or_ignored(text: str):
    """[MED9] Any Range header yields a part of the medium, the whole medium, or 416."""
    for header in (text, f"bytes={text}"):
        try:
            found = parse_range(header, 100)
        except RangeNotSatisfiable:
            continue
        assert found is None or 0 <= found[0] < found[1] <= 100


def test_without_a_header_no_range():
    """[MED9] Without a Range header the whole medium is sent."""
    assert parse_range(None, 5) is None


@pytest.mark.parametrize(
    "header, same",
    [
        ('"e"', True),
        ('W/"e"', True),
        ('"x", "e"', True),
        ("*", True),
        (" * ", True),
        ('"x"', False),
        ("e", False),
        ("", False),
    ],
)
def test_if_none_match(header: str, same: bool):
    """[MED10] If-None-Match compares tags weakly, one by one (RFC 9110 §13.1.2); If-Match strongly (§13.1.1)."""
    assert matches(header, '"e"') is same
    assert matches(header, '"e"', weakly=False) is (same and not header.startswith("W/"))
