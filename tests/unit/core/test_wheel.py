"""The timer wheel, alone."""

from __future__ import annotations

from orbital_relay.core.wheel import Wheel


def test_due_once_a_round():
    """[WHEEL1] An entry is due after one full round, and once in each later round."""
    wheel: Wheel[str] = Wheel(4)
    wheel.turn()
    wheel.add("a")

    assert [list(wheel.turn()) for _ in range(8)] == [[], [], [], ["a"], [], [], [], ["a"]]


def test_a_removed_entry_is_not_due():
    """[WHEEL1] A removed entry is no longer due; removing it twice has no effect."""
    wheel: Wheel[str] = Wheel(2)
    wheel.add("a")
    wheel.add("b")

    wheel.discard("a")
    wheel.discard("a")

    assert len(wheel) == 1
    assert list(wheel.turn()) == []
    assert list(wheel.turn()) == ["b"]


def test_entries_may_be_removed_while_due():
    """[WHEEL1] An entry that is due may remove itself and others."""
    wheel: Wheel[str] = Wheel(1)
    for name in "abc":
        wheel.add(name)

    for name in wheel.turn():
        wheel.discard(name)

    assert len(wheel) == 0
