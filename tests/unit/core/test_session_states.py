"""The table of a session's states."""

from __future__ import annotations

from orbital_relay.core.session_states import TRANSITIONS, Cause, State


def test_the_table_of_states():
    """[SESS1] Each cause ends a session from each active state; an ended session stays ended."""
    live = (State.OPEN, State.EXPIRING)

    for cause in Cause:
        if cause not in {Cause.ENDS_SOON, Cause.RENEWED}:
            assert [TRANSITIONS[state][cause] for state in live] == [State.ENDED, State.ENDED]
    assert set(TRANSITIONS[State.ENDED].values()) == {State.ENDED}
    assert set(TRANSITIONS) == set(State)
