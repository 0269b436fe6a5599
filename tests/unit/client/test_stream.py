"""One group's stream, without a conversation around it: late answers, heartbeats, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from orbital_relay import wire
from orbital_relay.client.errors import ChainBroken, NotAMember
from orbital_relay.client.events import CaughtUp, Position, Reset, ResetReason
from orbital_relay.client.protocol.effects import Deliver, Ended, Fetch, Notify, Reconnect, SubscriptionConfirmed
from orbital_relay.client.protocol.frames import read_frame
from orbital_relay.client.protocol.stream import EMPTY_PAGE_PAUSES_MS, HASHES_KEPT, Stream
from orbital_relay.client.protocol.subscription_state import SubscriptionState, Word
from orbital_relay.core.chain import digest
from tests.support.fake import GROUP, USER, Log


def log_of(events: int) -> Log:
    """Make a log."""
    log = Log(GROUP)
    for _ in range(events):
        log.append()
    return log


def asked(since: Position | None = None, *, verify: bool = False, capacity: int = 100) -> Stream:
    """Make a stream whose `subscribe` was sent."""
    tickets: Iterator[int] = count(1)
    stream = Stream(GROUP, since, verify=verify, capacity=capacity, ticket=lambda: next(tickets))
    stream.asked_since = since is not None
    stream.step(Word.ASK)
    return stream


def offered(stream: Stream, text: bytes) -> list[Any]:
    """Give the stream an event of the socket."""
    return stream.event(read_frame(text), text)


def delivered(effects: list[Any]) -> list[Any]:
    """Give the numbers of the events and the marks that are delivered, in order."""
    items = [effect.item for effect in effects if isinstance(effect, Deliver)]
    return [item if isinstance(item, Reset | CaughtUp) else item.seq for item in items]


def codes(effects: list[Any]) -> list[str]:
    """Give the codes of the problems that are reported."""
    return [effect.signal.code for effect in effects if isinstance(effect, Notify)]


# Chapter: what comes when nothing was asked


def test_words_that_mean_nothing_now():
    """[PYSTR1] A confirmation, an event or a dismissal before `subscribe`, or after the end, changes nothing."""
    log = log_of(1)
    stream = Stream(GROUP, Position(0, None), verify=True, capacity=9, ticket=lambda: 1)

    assert stream.confirm(1, recovered=True) == []
    assert offered(stream, log.frames[0]) == []
    assert stream.dismiss("removed") == []
    assert (stream.state, stream.last, stream.waiting) == (SubscriptionState.OFF, 0, 0)

    stream.end(None, "closed")

    assert stream.confirm(1, recovered=True) == []
    assert stream.dismiss("removed") == []
    assert stream.state is SubscriptionState.ENDED


def test_answers_to_an_older_fetch():
    """[PYSTR2] A page, a loss or a refusal with the ticket of an older Fetch changes nothing."""
    stream = asked(Position(0, None))
    stream.confirm(3, recovered=True)
    stream.ping()
    [fetch] = stream.ping()
    stale = fetch.ticket + 1

    assert stream.page(stale, log_of(3).frames) == []
    assert stream.gone(stale, 3) == []
    assert stream.refused(stale, NotAMember(GROUP)) == []
    assert (stream.last, stream.state) == (0, SubscriptionState.ON)
    assert delivered(stream.page(fetch.ticket, log_of(3).frames)) == [1, 2, 3, CaughtUp(group_id=GROUP, seq=3)]


def test_a_server_that_names_no_number():
    """[PYSTR3] If `subscribed` names no number, the first event that comes is the first of the stream."""
    log = log_of(5)
    stream = asked()

    assert stream.confirm(None, recovered=None) == [SubscriptionConfirmed(GROUP, None)]
    assert stream.position is None
    assert delivered(offered(stream, log.frames[3])) == [4]
    assert delivered(offered(stream, log.frames[4])) == [5]
    assert stream.position == Position(5, digest(log.frames[4]))


# Chapter: heartbeats


def test_an_unanswered_request():
    """[PYSTR4] A request that two heartbeats find unanswered ends the connection; `verify` reports it, too."""
    plain, verifying = asked(), asked(verify=True)

    assert plain.ping() == verifying.ping() == []
    assert plain.ping()[-1:] == [Reconnect("The server does not answer a request.")]
    effects = verifying.ping()
    assert codes(effects) == ["NO_ANSWER"]
    assert effects[-1:] == [Reconnect("The server does not answer a request.")]


def test_an_announced_event_that_does_not_come():
    """[PYSTR5] An event that was announced before the last heartbeat, and did not come since, is read from the log."""
    log = log_of(3)
    stream = asked(Position(0, None))
    stream.confirm(2, recovered=True)

    assert stream.ping() == []
    assert stream.ping() == [Fetch(GROUP, 0, 100, 1)]
    assert stream.ping() == [], "the Fetch is in progress"
    assert delivered(stream.page(1, log.frames[:2])) == [1, 2, CaughtUp(group_id=GROUP, seq=2)]
    assert (stream.ping(), stream.ping()) == ([], []), "nothing is due"


def test_a_full_buffer_is_not_stuck():
    """[PYSTR10] A reader whose buffer is full gets no second request by a heartbeat."""
    log = log_of(3)
    stream = asked(Position(0, None), capacity=1)
    stream.confirm(3, recovered=True)
    offered(stream, log.frames[0])

    assert (stream.ping(), stream.ping(), stream.ping()) == ([], [], [])


# Chapter: what is missing


def exhausted(stream: Stream, ticket: int) -> list[Any]:
    """Answer every Fetch by an empty page until the stream asks no more; returns the last effects."""
    for pause_ms in EMPTY_PAGE_PAUSES_MS:
        effects = stream.page(ticket, [])
        [fetch] = effects
        assert fetch.pause_ms == pause_ms
        ticket = fetch.ticket
    return stream.page(ticket, [])


def test_an_announced_event_that_the_log_does_not_have():
    """[PYSTR6] An event that the log lacks after four pauses is reported as missing, and the stream is caught up."""
    stream = asked(Position(0, None))
    stream.confirm(2, recovered=True)
    stream.ping()
    [fetch] = stream.ping()

    effects = exhausted(stream, fetch.ticket)

    assert codes(effects) == ["MISSING"]
    assert delivered(effects) == [CaughtUp(group_id=GROUP, seq=0)]
    assert (stream.ping(), stream.ping()) == ([], []), "it is not asked for again"


def test_verify_ends_at_a_missing_event():
    """[PYSTR11] With `verify` the stream ends at an event that the log lacks."""
    stream = asked(Position(0, None), verify=True)
    stream.confirm(2, recovered=True)
    stream.ping()
    [fetch] = stream.ping()

    [ended] = exhausted(stream, fetch.ticket)

    assert isinstance(ended, Ended)
    assert isinstance(ended.error, ChainBroken)
    assert (ended.reason, stream.state) == ("chain", SubscriptionState.ENDED)


# Chapter: a doubted reset


def doubting() -> tuple[Stream, Log, Fetch]:
    """Make a stream with `verify` that asks the log whether what follows its position is lost."""
    log = log_of(4)
    stream = asked(Position(1, digest(log.frames[0])), verify=True)
    [_, fetch] = stream.confirm(3, recovered=False)
    return stream, log, fetch


def test_an_event_while_the_position_is_in_doubt():
    """[PYSTR7] An event that comes while the log is asked waits for the log's answer, which has it, too."""
    stream, log, fetch = doubting()

    assert offered(stream, log.frames[3]) == []
    effects = stream.page(fetch.ticket, log.frames[1:4])
    assert codes(effects) == ["FALSE_RESET"]
    assert delivered(effects) == [2, 3, CaughtUp(group_id=GROUP, seq=3), 4]


def test_a_log_that_has_nothing_more():
    """[PYSTR12] If the log has nothing after the position, the stream continues after the number of the server."""
    stream, _, fetch = doubting()

    effects = stream.page(fetch.ticket, [])

    reset = Reset(group_id=GROUP, last_seq=1, seq=3, reason=ResetReason.GONE)
    assert delivered(effects) == [reset, CaughtUp(group_id=GROUP, seq=3)]


def test_a_log_whose_event_does_not_follow():
    """[PYSTR13] An event without a `prev`, or with a wrong one, is not accepted: the stream continues later."""
    for change in (lambda text: text[:-54] + b"}", lambda text: text[:-45] + b"A" * 43 + b'"}'):
        stream, log, fetch = doubting()

        effects = stream.page(fetch.ticket, [change(log.frames[1])])

        assert delivered(effects)[:1] == [Reset(group_id=GROUP, last_seq=1, seq=3, reason=ResetReason.GONE)]


# Chapter: bounds and ends


def test_hashes_are_bounded():
    """[PYSTR8] With `verify` a changed repeat of one of the last thousand events, and no older one, ends the stream."""
    log = log_of(HASHES_KEPT + 1)
    stream = asked(Position(0, None), verify=True, capacity=HASHES_KEPT + 9)
    stream.confirm(0, recovered=True)
    for text in log.frames:
        assert delivered(offered(stream, text))

    changed = [text.replace(b'"encrypted_envelope":"', b'"encrypted_envelope":"AAAA') for text in log.frames[:2]]

    assert [type(effect) for effect in offered(stream, changed[0])] == [Notify]
    [ended] = offered(stream, changed[1])
    assert isinstance(ended.error, ChainBroken)


def test_an_end_that_an_event_explains():
    """[PYSTR9] With `verify` an end is reported unless the last event delivered is that this user left."""
    for left, expected in ((True, []), (False, ["UNPROVEN_END"])):
        log = Log(GROUP)
        stream = asked(Position(0, None), verify=True)
        stream.user_id = USER
        stream.confirm(0, recovered=True)
        if left:
            offered(stream, log.append(wire.MemberLeft(GROUP, USER, "anna", "", "left")))

        effects = stream.dismiss("left")

        assert codes(effects) == expected
        assert effects[-1] == Ended(GROUP, None, "left")
