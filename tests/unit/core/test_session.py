"""One client's session, alone."""

from __future__ import annotations

import json

import pytest

from orbital_relay import wire
from orbital_relay.core import session as says
from orbital_relay.core.session import Session
from orbital_relay.core.session_states import SessionState
from orbital_relay.errors import Unauthorized
from orbital_relay.model import Principal, Resume

ADA = Principal(1, "user-ada", "ada", expires_at_s=1_000)
THREAD = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def session():
    """Return an open session of Ada's."""
    return Session(ADA, frame_rate=50, now_s=0)


def _beat(session, now_s=0.0):
    return session.beat(now_s=now_s, wall_s=now_s)


def _wake(session, now_s):
    return session.wake(now_s=now_s, wall_s=now_s)


def _renew(session, principal, *, now_s=0.0, reply_to=None):
    return session.renewed(principal, reply_to=reply_to, now_s=now_s, wall_s=now_s)


def _frame(type, data=None, **more):
    return json.dumps({"type": type, **({} if data is None else {"data": data}), **more}).encode()


def _say(session, type, data=None, *, now_s=0.0, **more):
    return session.receive(_frame(type, data, **more), now_s=now_s)


# Frames


def test_subscribe():
    """[SUB1] `subscribe` lists groups, each once, and positions with or without a hash."""
    session = Session(ADA, frame_rate=50, now_s=0)

    effects = _say(
        session, "subscribe", {"group_ids": ["a", "b", "a"], "since": {"a": 3, "b": {"seq": 4, "hash": "h"}}}, id=7
    )

    assert effects == [says.AddSubscriptions(["a", "b"], {"a": Resume(3), "b": Resume(4, "h")}, 7)]


def test_unsubscribe(session):
    """[SUB2] `unsubscribe` lists groups."""
    assert _say(session, "unsubscribe", {"group_ids": ["a"]}, id="x") == [says.RemoveSubscriptions(["a"], "x")]


def test_authenticate(session):
    """[TOK4] `authenticate` passes a token to be verified, with the id that the answer carries."""
    assert _say(session, "authenticate", {"token": "t"}) == [says.Verify("t", None)]
    assert _say(session, "authenticate", {"token": "t"}, id=4) == [says.Verify("t", 4)]


@pytest.mark.parametrize("kind", ["post_message", "post_thread", "post_reply"])
def test_posts(session, kind):
    """[POST1] Post frames are passed to the use case unchanged."""
    (effect,) = _say(session, kind, {"x": 1}, id=1)

    assert isinstance(effect, says.StorePost)
    assert effect.reply_to == 1


# Bad input


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"type":"nonsense"}',
        b'{"type":7}',
        b'{"type":"subscribe"}',
        b'{"type":"subscribe","data":null}',
        b'{"type":"subscribe","data":{"group_ids":"a"}}',
        b'{"type":"subscribe","data":{"group_ids":[1]}}',
        b'{"type":"subscribe","data":{"group_ids":[],"since":{"a":-1}}}',
        b'{"type":"subscribe","data":{"group_ids":[],"since":{"a":1.5}}}',
        b'{"type":"typing_indicator","data":{"thread_id":"x","is_typing":true}}',
        b'{"type":"pong","id":[]}',
        b"[" * 60_000,
    ],
)
def test_a_bad_frame_is_answered_and_the_session_continues(session, text):
    """[BAD1] An invalid frame gets an `error` with the reason, and the session continues."""
    (effect,) = session.receive(text, now_s=0)

    assert isinstance(effect, says.Complain)
    assert effect.code == "VALIDATION_ERROR"
    assert effect.message
    assert session.state is SessionState.OPEN


def test_the_id_of_a_bad_frame_is_echoed(session):
    """[BAD1] If a bad frame has a valid id, the error contains it."""
    (effect,) = _say(session, "nonsense", id="mine")

    assert effect.reply_to == "mine"


def test_ten_bad_frames_in_a_row(session):
    """[BAD2] The tenth bad frame in a row is answered, and ends the session with 1008."""
    for _ in range(9):
        (effect,) = session.receive(b"{", now_s=0)
        assert isinstance(effect, says.Complain)

    effects = session.receive(b"{", now_s=0)

    assert [type(effect) for effect in effects] == [says.Complain, says.CloseConnection]
    assert effects[1].code == 1008
    assert session.state is SessionState.ENDED
    assert session.receive(_frame("pong"), now_s=0) == []


def test_a_valid_frame_resets_the_count(session):
    """[BAD2] A valid frame resets the count of bad frames; a post does so only once its use case accepts it."""
    for _ in range(9):
        session.receive(b"{", now_s=0)
    _say(session, "post_message", {})
    assert session.struck()

    session.accepted()

    assert [session.struck() for _ in range(10)] == [False] * 9 + [True]
    _say(session, "pong")
    assert [session.struck() for _ in range(10)] == [False] * 9 + [True]


# Rate


def test_frames_over_the_rate(session):
    """[RATE1] A burst of 100 frames passes; each frame over the rate is refused, and then 1008 ends the session."""
    for _ in range(100):
        assert _say(session, "pong") == []

    assert _say(session, "pong", id=1) == [
        says.Complain(
            "TOO_MANY_REQUESTS",
            "That is more frames a second than this server accepts. Send more slowly.",
            {"retry_after": 1},
            reply_to=1,
        )
    ]
    for _ in range(49):
        assert isinstance(_say(session, "pong")[0], says.Complain)
    (end,) = _say(session, "pong")
    assert isinstance(end, says.CloseConnection)
    assert end.code == 1008


def test_a_pause_resets_the_count_of_refusals(session):
    """[RATE1] After a pause frames pass again, and the count of refusals is reset."""
    for _ in range(140):
        _say(session, "pong")

    assert _say(session, "pong", now_s=1) == []
    for _ in range(49):
        assert _say(session, "pong", now_s=1) == []
    assert isinstance(_say(session, "pong", now_s=1)[0], says.Complain)


def test_control_frames_count(session):
    """[RATE1] Pings, pongs and fragments count like any frame, and get no answer over the rate."""
    for _ in range(150):
        assert session.control(now_s=0) == []

    (end,) = session.control(now_s=0)

    assert isinstance(end, says.CloseConnection)
    assert session.control(now_s=0) == []


# Heartbeat


def test_three_missed_pings(session):
    """[HB2] After three unanswered pings the connection is closed when the fourth is due."""
    assert [_beat(session) for _ in range(4)] == [[says.Beat()], [says.Beat()], [says.Beat()], [says.AbortConnection()]]
    assert _beat(session) == []


@pytest.mark.parametrize("answer", [lambda s: _say(s, "pong", {"client_time": 1}), lambda s: s.pong()])
def test_a_pong_answers_a_ping(session, answer):
    """[HB2] A JSON pong and a WebSocket pong with any payload both answer a ping."""
    for _ in range(20):
        assert _beat(session) == [says.Beat()]
        answer(session)
    assert [_beat(session) for _ in range(4)] == [[says.Beat()], [says.Beat()], [says.Beat()], [says.AbortConnection()]]


def test_other_frames_answer_no_ping(session):
    """[HB2] Other frames do not answer a ping."""
    for _ in range(3):
        _beat(session)
        _say(session, "subscribe", {"group_ids": []})

    assert _beat(session) == [says.AbortConnection()]


# Tokens


def test_expiry(session):
    """[TOK3] A client is notified once, a minute before its token expires; on expiry it is closed with 1008."""
    assert session.opened(now_s=0, wall_s=0) == []
    assert _beat(session, now_s=900) == [says.Beat(), says.WakeAt(940)]
    assert _beat(session, now_s=930) == [says.Beat()]

    assert _wake(session, 940) == [says.Say(wire.TokenExpiring(wire.iso(1_000_000))), says.WakeAt(1_000)]
    assert session.state is SessionState.EXPIRING
    (end,) = _wake(session, 1_000)
    assert (type(end), end.code) == (says.CloseConnection, 1008)
    assert _wake(session, 1_001) == []


@pytest.mark.parametrize(("wall_s", "timer"), [(879.0, []), (879.5, [says.WakeAt(60.5)])])
def test_the_timer_for_a_distant_notice(session, wall_s, timer):
    """[SESS2] The timer is set only once the notice is less than two beats and a second away: each beat asks again."""
    assert session.opened(now_s=0, wall_s=wall_s) == timer


def test_an_early_wake():
    """[TOK3] A session that wakes too early does nothing, and sets the timer again if expiry is near."""
    session = Session(ADA, frame_rate=50, now_s=0)

    assert _wake(session, 10) == []
    assert _wake(session, 939) == [says.WakeAt(940)]


def test_a_token_that_ends_within_a_minute_of_the_handshake(session):
    """[TOK3] With less than a minute left the notification is sent at once."""
    assert session.opened(now_s=970, wall_s=970) == [says.WakeAt(970)]
    assert _wake(session, 970) == [says.Say(wire.TokenExpiring(wire.iso(1_000_000))), says.WakeAt(1_000)]


def test_the_clocks_of_a_wake(session):
    """[TOK3] Token expiry is wall-clock time; the timer runs on the monotonic clock."""
    assert session.opened(now_s=5, wall_s=930) == [says.WakeAt(15)]


def test_a_newer_token(session):
    """[TOK4] A newer token of the same user extends the connection to its own expiry."""
    _wake(session, 950)

    effects = _renew(session, Principal(1, "user-ada", "ada", expires_at_s=5_000), now_s=960, reply_to=1)

    assert effects == [says.Say(wire.Authenticated(wire.iso(5_000_000)), 1)]
    assert session.state is SessionState.OPEN
    assert _wake(session, 1_500) == []
    assert _beat(session, now_s=4_900) == [says.Beat(), says.WakeAt(4_940)]


def test_a_newer_token_that_ends_soon(session):
    """[TOK4] The timer of a newer token that ends within a minute is due at once."""
    effects = _renew(session, Principal(1, "user-ada", "ada", expires_at_s=1_020), now_s=980)

    assert effects == [says.Say(wire.Authenticated(wire.iso(1_020_000)), None), says.WakeAt(980)]


def test_another_users_token(session):
    """[TOK4] A token of another user is refused, and the session is unchanged."""
    effects = _renew(session, Principal(2, "user-bob", "bob", expires_at_s=5_000), reply_to=1)

    assert effects == [
        says.Complain("FORBIDDEN", "This token is another user's; the connection is unchanged.", {}, reply_to=1)
    ]
    assert session.principal is ADA


def test_a_token_that_is_not_valid(session):
    """[TOK4] An invalid token is refused, and the session is unchanged."""
    effects = session.not_renewed(Unauthorized("no"), reply_to=1)

    assert effects == [says.Complain("UNAUTHORIZED", "no", {}, reply_to=1)]
    assert session.state is SessionState.OPEN


def test_revoked(session):
    """[TOK5] Revoking the token closes the connection with 1008, once."""
    (end,) = session.revoked()

    assert (type(end), end.code) == (says.CloseConnection, 1008)
    assert session.revoked() == []
    assert session.bad_frames() == []
    assert _renew(session, ADA) == []
    assert session.not_renewed(Unauthorized("no"), reply_to=None) == []
    assert session.closed() == []


def test_a_post_that_is_the_last_bad_frame(session):
    """[BAD2] A post with invalid data can be the tenth bad frame."""
    (end,) = session.bad_frames()

    assert (end.code, end.reason) == (1008, "ten bad frames in a row")


# Typing


def _type(session, *, is_typing=True, thread_id=THREAD, now_s=0.0, **more):
    return _say(session, "typing_indicator", {"thread_id": thread_id, "is_typing": is_typing}, now_s=now_s, **more)


def test_typing_stops_by_itself(session):
    """[TYPE2] The stop is sent once, six seconds after the last indicator."""
    assert _type(session, now_s=1) == [says.Type(THREAD, is_typing=True, reply_to=None)]
    assert session.typing_sent(THREAD, is_typing=True, now_s=1) == [says.WakeAt(7)]
    _type(session, now_s=3)
    assert session.typing_sent(THREAD, is_typing=True, now_s=3) == []

    assert _wake(session, 7) == [says.WakeAt(9)]
    assert _wake(session, 9) == [says.StopTyping(THREAD)]
    assert _wake(session, 20) == []


def test_typing_stops_at_the_end(session):
    """[TYPE2] When the connection ends, the stop is sent for its user."""
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)

    assert session.closed() == [says.StopTyping(THREAD)]


def test_a_stop_sent_by_the_client(session):
    """[TYPE2] After the client's own stop no second stop is sent."""
    session.typing_sent(THREAD, is_typing=False, now_s=0)
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)

    assert _type(session, is_typing=False, id=3) == [says.Type(THREAD, is_typing=False, reply_to=3)]
    session.typing_sent(THREAD, is_typing=False, now_s=0)

    assert session.closed() == []


def test_typing_that_was_not_announced_does_not_stop(session):
    """[TYPE1] Before the group was notified of typing, no stop is sent, neither by timeout nor at the end."""
    _type(session)

    assert _wake(session, 20) == []
    assert session.closed() == []


def test_a_stop_without_a_start(session):
    """[TYPE1] A client may send a stop for a thread in which it does not type: it changes nothing."""
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)
    other = THREAD[:-1] + "f"

    assert _type(session, is_typing=False, thread_id=other) == [says.Type(other, is_typing=False, reply_to=None)]
    assert session.typing_sent(other, is_typing=False, now_s=0) == []
    session.typing_refused(other)

    assert session.closed() == [says.StopTyping(THREAD)]


def test_typing_in_no_thread(session):
    """[TYPE1] A typing indicator names its thread by a UUID; the refusal names the field."""
    assert _type(session, thread_id="x", id=2) == [
        says.Complain(
            "VALIDATION_ERROR",
            "data.thread_id must be a UUID with hyphens.",
            {"field": "data.thread_id"},
            reply_to=2,
        )
    ]


def test_a_refused_thread_is_forgotten(session):
    """[TYPE1] If the user may not type in a thread, no stop is sent later."""
    session.typing_refused(THREAD)
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)

    session.typing_refused(THREAD)

    assert session.closed() == []


def test_typing_threads_are_bounded(session):
    """[TYPE1] A connection may type in a bounded number of threads at once; more is refused."""
    threads = [THREAD[:-1] + f"{number:x}" for number in range(says.TYPING_THREADS)]
    for thread_id in threads:
        _type(session, thread_id=thread_id)

    effects = _type(session, thread_id=THREAD[:-1] + "f", id=5)

    assert effects == [
        says.Complain(
            "TOO_MANY_REQUESTS",
            "There are typing indicators in too many threads at once.",
            {"retry_after": 1},
            reply_to=5,
        )
    ]
    for thread_id in threads:
        session.typing_sent(thread_id, is_typing=True, now_s=0)
    assert len(session.closed()) == says.TYPING_THREADS
