"""The table of a session's states."""

from __future__ import annotations

from orbital_relay.core.session_states import TRANSITIONS, Cause, SessionState


def test_the_table_of_states():
    """[SESS1] Each cause ends a session from each active state; an ended session stays ended."""
    live = (SessionState.OPEN, SessionState.EXPIRING)

    for cause in Cause:
        if cause not in {Cause.ENDS_SOON, Cause.RENEWED}:
            assert [TRANSITIONS[state][cause] for state in live] == [SessionState.ENDED, SessionState.ENDED]
    assert set(TRANSITIONS[SessionState.ENDED].values()) == {SessionState.ENDED}
    assert set(TRANSITIONS) == set(SessionState)


def test_what_does_not_end_a_session():
    """[SESS3] A session is notified once that its token ends soon; a newer token opens it again."""
    assert TRANSITIONS[SessionState.OPEN][Cause.ENDS_SOON] is SessionState.EXPIRING
    assert Cause.ENDS_SOON not in TRANSITIONS[SessionState.EXPIRING]
    assert TRANSITIONS[SessionState.OPEN][Cause.RENEWED] is SessionState.OPEN
    assert TRANSITIONS[SessionState.EXPIRING][Cause.RENEWED] is SessionState.OPEN
    assert set(TRANSITIONS[SessionState.ENDED]) == {Cause.CLOSED}
