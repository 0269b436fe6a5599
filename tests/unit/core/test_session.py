"""One client's session, alone."""

from __future__ import annotations

import json

import pytest

from orbital_relay import wire
from orbital_relay.core import session as says
from orbital_relay.core.session import Session
from orbital_relay.core.session_states import State
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
    """[SUB1] `subscribe` names groups, each once, and positions with or without a hash."""
    session = Session(ADA, frame_rate=50, now_s=0)

    effects = _say(
        session, "subscribe", {"group_ids": ["a", "b", "a"], "since": {"a": 3, "b": {"seq": 4, "hash": "h"}}}, id=7
    )

    assert effects == [says.AddSubscriptions(["a", "b"], {"a": Resume(3), "b": Resume(4, "h")}, 7)]


def test_unsubscribe(session):
    """[SUB2] `unsubscribe` names groups."""
    assert _say(session, "unsubscribe", {"group_ids": ["a"]}, id="x") == [says.RemoveSubscriptions(["a"], "x")]


def test_authenticate(session):
    """[TOK4] `authenticate` brings a token to be checked."""
    assert _say(session, "authenticate", {"token": "t"}) == [says.Verify("t", None)]


@pytest.mark.parametrize("kind", ["post_message", "post_thread", "post_reply"])
def test_posts(session, kind):
    """[POST1] The post frames go on to the use case as they are."""
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
def test_a_bad_frame_is_answered_and_the_session_lives(session, text):
    """[BAD1] An invalid frame gets an `error` with the reason, and the session continues."""
    (effect,) = session.receive(text, now_s=0)

    assert isinstance(effect, says.Complain)
    assert effect.code == "VALIDATION_ERROR"
    assert effect.message
    assert session.state is State.OPEN


def test_the_id_of_a_bad_frame_is_echoed(session):
    """[BAD1] If a bad frame has a usable id, its error names it."""
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
    assert session.state is State.ENDED
    assert session.receive(_frame("pong"), now_s=0) == []


def test_a_good_frame_forgives(session):
    """[BAD2] A good frame in between starts the count again; a post only when its use case accepted it."""
    for _ in range(9):
        session.receive(b"{", now_s=0)
    _say(session, "post_message", {})
    assert session.struck()

    session.accepted()

    assert not session.struck()
    _say(session, "pong")
    assert not session.struck()


# Rate


def test_frames_over_the_rate(session):
    """[RATE1] A burst of 100 passes; what is over the rate is refused one by one, then the session ends with 1008."""
    for _ in range(100):
        assert _say(session, "pong") == []

    (refusal,) = _say(session, "pong", id=1)
    assert isinstance(refusal, says.Complain)
    assert (refusal.code, refusal.reply_to) == ("TOO_MANY_REQUESTS", 1)
    for _ in range(49):
        assert isinstance(_say(session, "pong")[0], says.Complain)
    (end,) = _say(session, "pong")
    assert isinstance(end, says.CloseConnection)
    assert end.code == 1008


def test_who_slows_down_is_forgiven(session):
    """[RATE1] After a pause frames pass again, and the refusals are forgotten."""
    for _ in range(140):
        _say(session, "pong")

    assert _say(session, "pong", now_s=1) == []
    for _ in range(49):
        assert _say(session, "pong", now_s=1) == []
    assert isinstance(_say(session, "pong", now_s=1)[0], says.Complain)


def test_control_frames_count(session):
    """[RATE1] Pings, pongs and fragments count like any frame, and get no answer when they are too many."""
    for _ in range(150):
        assert session.control(now_s=0) == []

    (end,) = session.control(now_s=0)

    assert isinstance(end, says.CloseConnection)
    assert session.control(now_s=0) == []


# Heartbeat


def test_three_missed_pings(session):
    """[HB2] Three pings unanswered, and when the fourth is due the connection is cut."""
    assert [_beat(session) for _ in range(4)] == [[says.Beat()], [says.Beat()], [says.Beat()], [says.AbortConnection()]]
    assert _beat(session) == []


@pytest.mark.parametrize("answer", [lambda s: _say(s, "pong", {"client_time": 1}), lambda s: s.pong()])
def test_an_answer_proves_life(session, answer):
    """[HB2] A JSON pong and a WebSocket pong both prove life, with whatever in them."""
    for _ in range(20):
        assert _beat(session) == [says.Beat()]
        answer(session)


def test_nothing_else_proves_life(session):
    """[HB2] Other frames do not."""
    for _ in range(3):
        _beat(session)
        _say(session, "subscribe", {"group_ids": []})

    assert _beat(session) == [says.AbortConnection()]


# Tokens


def test_expiry(session):
    """[TOK3] A minute before its token ends a client is notified, once; at the end it is closed with 1008."""
    assert session.opened(now_s=0, wall_s=0) == []
    assert _beat(session, now_s=900) == [says.Beat(), says.WakeAt(940)]
    assert _beat(session, now_s=930) == [says.Beat()]

    assert _wake(session, 940) == [says.Say(wire.TokenExpiring(wire.iso(1_000_000))), says.WakeAt(1_000)]
    assert session.state is State.EXPIRING
    (end,) = _wake(session, 1_000)
    assert (type(end), end.code) == (says.CloseConnection, 1008)
    assert _wake(session, 1_001) == []


def test_a_wake_that_is_early():
    """[TOK3] A session that is woken too early does nothing, and asks again if its time is near."""
    session = Session(ADA, frame_rate=50, now_s=0)

    assert _wake(session, 10) == []
    assert _wake(session, 939) == [says.WakeAt(940)]


def test_a_token_that_ends_within_a_minute_of_the_handshake(session):
    """[TOK3] With less than a minute left the notice comes at once."""
    assert session.opened(now_s=970, wall_s=970) == [says.WakeAt(970)]
    assert _wake(session, 970) == [says.Say(wire.TokenExpiring(wire.iso(1_000_000))), says.WakeAt(1_000)]


def test_the_clocks_of_a_wake(session):
    """[TOK3] A token ends by the time of day; the timer is set in steady time."""
    assert session.opened(now_s=5, wall_s=930) == [says.WakeAt(15)]


def test_a_newer_token(session):
    """[TOK4] A newer token of the same user keeps the connection to its own end."""
    _wake(session, 950)

    effects = _renew(session, Principal(1, "user-ada", "ada", expires_at_s=5_000), now_s=960, reply_to=1)

    assert effects == [says.Say(wire.Authenticated(wire.iso(5_000_000)), 1)]
    assert session.state is State.OPEN
    assert _wake(session, 1_500) == []
    assert _beat(session, now_s=4_900) == [says.Beat(), says.WakeAt(4_940)]


def test_another_users_token(session):
    """[TOK4] Another user's token is refused, and nothing changes."""
    (effect,) = _renew(session, Principal(2, "user-bob", "bob", expires_at_s=5_000), reply_to=1)

    assert effect.code == "FORBIDDEN"
    assert session.principal is ADA


def test_a_token_that_is_not_valid(session):
    """[TOK4] A bad token is refused, and nothing changes."""
    (effect,) = session.not_renewed(Unauthorized("no"), reply_to=1)

    assert effect.code == "UNAUTHORIZED"
    assert session.state is State.OPEN


def test_revoked(session):
    """[TOK5] A revoked token ends the connection with 1008, once."""
    (end,) = session.revoked()

    assert (type(end), end.code) == (says.CloseConnection, 1008)
    assert session.revoked() == []
    assert session.bad_frames() == []
    assert _renew(session, ADA) == []
    assert session.not_renewed(Unauthorized("no"), reply_to=None) == []
    assert session.closed() == []


def test_a_post_that_is_the_last_bad_frame(session):
    """[BAD2] A post whose data is wrong can be the tenth bad frame."""
    (end,) = session.bad_frames()

    assert (end.code, end.reason) == (1008, "ten bad frames in a row")


# Typing


def _type(session, *, is_typing=True, thread_id=THREAD, now_s=0.0, **more):
    return _say(session, "typing_indicator", {"thread_id": thread_id, "is_typing": is_typing}, now_s=now_s, **more)


def test_typing_stops_by_itself(session):
    """[TYPE2] Six seconds after the last indicator the stop is sent, once."""
    assert _type(session, now_s=1) == [says.Type(THREAD, is_typing=True, reply_to=None)]
    assert session.typing_sent(THREAD, is_typing=True, now_s=1) == [says.WakeAt(7)]
    _type(session, now_s=3)
    assert session.typing_sent(THREAD, is_typing=True, now_s=3) == []

    assert _wake(session, 7) == [says.WakeAt(9)]
    assert _wake(session, 9) == [says.StopTyping(THREAD)]
    assert _wake(session, 20) == []


def test_typing_stops_at_the_end(session):
    """[TYPE2] When the connection ends, its user stops typing."""
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)

    assert session.closed() == [says.StopTyping(THREAD)]


def test_a_stop_of_the_clients_own(session):
    """[TYPE2] After the client's own stop no other is sent."""
    session.typing_sent(THREAD, is_typing=False, now_s=0)
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)

    assert _type(session, is_typing=False, id=3) == [says.Type(THREAD, is_typing=False, reply_to=3)]
    session.typing_sent(THREAD, is_typing=False, now_s=0)

    assert session.closed() == []


def test_typing_that_was_not_announced_does_not_stop(session):
    """[TYPE1] Until the group was notified there is nothing that could stop, in time or at the end."""
    _type(session)

    assert _wake(session, 20) == []
    assert session.closed() == []


def test_a_refused_thread_is_forgotten(session):
    """[TYPE1] Where the user may not type, no stop is sent later."""
    session.typing_refused(THREAD)
    _type(session)
    session.typing_sent(THREAD, is_typing=True, now_s=0)

    session.typing_refused(THREAD)

    assert session.closed() == []


def test_nobody_types_everywhere(session):
    """[TYPE1] One connection types in a few threads at once; more is refused, so memory stays bounded."""
    threads = [THREAD[:-1] + f"{number:x}" for number in range(says.TYPING_THREADS)]
    for thread_id in threads:
        _type(session, thread_id=thread_id)

    (effect,) = _type(session, thread_id=THREAD[:-1] + "f")

    assert effect.code == "TOO_MANY_REQUESTS"
    for thread_id in threads:
        session.typing_sent(thread_id, is_typing=True, now_s=0)
    assert len(session.closed()) == says.TYPING_THREADS
