"""The rule of order, by the shared vectors and by every short story there is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from orbital_relay.core.cursor import Cursor, Verdict
from tests.support.vectors import cases, named


@pytest.mark.parametrize("case", cases("cursor"), ids=named)
def test_vectors(case: Any) -> None:
    """[ORD1] Every reader follows the shared vectors."""
    cursor = Cursor(case["last"])

    for offer in case["offers"]:
        assert cursor.offer(offer["seq"]) is Verdict(offer["verdict"])
        assert cursor.last == offer["last"]


def test_in_any_order_each_event_is_accepted_once() -> None:
    """[ORD2] For every sequence of five offers from 1 to 4, the accepted numbers are 1, 2, 3, … without a gap."""
    for offers in product(range(1, 5), repeat=5):
        cursor = Cursor()

        taken = [seq for seq in offers if cursor.offer(seq) is Verdict.NEXT]

        assert taken == list(range(1, len(taken) + 1))
        assert cursor.last == len(taken)


def test_gap_keeps_position() -> None:
    """[ORD3] A number beyond the next one does not move the cursor."""
    cursor = Cursor(4)

    assert cursor.offer(7) is Verdict.GAP
    assert cursor.last == 4
    assert repr(cursor) == "Cursor(4)"


def test_a_position_below_zero_is_refused() -> None:
    """[ORD4] No position is below the one before the first event."""
    with pytest.raises(ValueError, match="0 or more, not -1"):
        Cursor(-1)
