"""The client's conversation, without a socket, a clock or a loop."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from orbital_relay import wire
from orbital_relay.client.errors import ChainBroken, NotAMember, SubscribeRefused
from orbital_relay.client.events import (
    CaughtUp,
    Position,
    Problem,
    Reset,
    ResetReason,
    Typing,
    UnknownEvent,
    Unnumbered,
)
from orbital_relay.client.protocol.conversation import GROUPS_PER_FRAME, ClientProtocol
from orbital_relay.client.protocol.effects import (
    Deliver,
    Ended,
    Fetch,
    Notify,
    Opened,
    Reconnect,
    RenewToken,
    Send,
    SubscriptionConfirmed,
)
from orbital_relay.client.protocol.frames import BadFrame, Makes, event_of, read_frame
from orbital_relay.client.protocol.reconnect import ReconnectPolicy, idle_limit_s
from orbital_relay.client.protocol.stream import EMPTY_PAGE_PAUSES_MS
from orbital_relay.client.protocol.typing import TypingThrottle
from orbital_relay.core.backoff import Backoff
from orbital_relay.core.chain import digest, first_prev
from tests.support.fake import GROUP, OTHER, STAMP, USER, Log
from tests.support.vectors import cases, load, named

NOW = load("frames")["now_ms"]


def control(type_: str, data: dict[str, Any], **more: Any) -> bytes:
    """Make a frame of the server's that is no event."""
    return json.dumps({"type": type_, "data": data, "server_timestamp": STAMP, **more}).encode()


def hello() -> bytes:
    """Make the greeting."""
    data = {"user_id": USER, "username": "anna", "session_id": "s", "heartbeat_seconds": 20}
    return control("auth_success", data)


def subscribed(seq: int, *, recovered: bool | None = None, group_id: str = GROUP) -> bytes:
    """Make the answer to a subscribe."""
    state: dict[str, Any] = {"seq": seq} | ({} if recovered is None else {"recovered": recovered})
    return control("subscribed", {"group_ids": [group_id], "subscribed_at": "", "groups": {group_id: state}})


def log_of(events: int, group_id: str = GROUP) -> Log:
    """Make a group's log."""
    log = Log(group_id)
    for _ in range(events):
        log.append()
    return log


def listening(since: Position | None, seq: int, *, recovered: bool | None = None, **options: Any) -> ClientProtocol:
    """Make a conversation that is open and subscribed to one group."""
    talk = ClientProtocol(**options)
    talk.subscribe(GROUP, since, now_ms=NOW)
    talk.received(hello(), now_ms=NOW)
    talk.received(subscribed(seq, recovered=recovered), now_ms=NOW)
    return talk


def seqs(effects: list[Any]) -> list[int]:
    """Give the numbers of the events that are delivered."""
    return [
        effect.item.seq
        for effect in effects
        if isinstance(effect, Deliver) and not isinstance(effect.item, Reset | CaughtUp)
    ]


def marks(effects: list[Any]) -> list[Any]:
    """Give the marks that are delivered."""
    return [e.item for e in effects if isinstance(e, Deliver) and isinstance(e.item, Reset | CaughtUp)]


def only(effects: list[Any], kind: type[Any]) -> list[Any]:
    """Give the effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


# Chapter: frames


@pytest.mark.parametrize("case", cases("frames"), ids=named)
def test_frame_vectors(case: Any) -> None:
    """[FRM1] Every client parses a frame to the same result."""
    expect = case["expect"]
    if expect["makes"] == "bad":
        with pytest.raises(BadFrame):
            read_frame(case["text"].encode())
        return

    frame = read_frame(case["text"].encode())

    assert frame.makes is Makes(expect["makes"])
    if frame.makes is Makes.EVENT:
        assert (frame.type, frame.group_id, frame.seq, frame.prev) == (
            expect["type"],
            expect["group_id"],
            expect["seq"],
            expect["prev"],
        )
        event = event_of(frame, case["text"].encode())
        assert (event.type, event.seq, event.hash) == (expect["type"], expect["seq"], digest(case["text"].encode()))
        assert event.frame == case["text"].encode()
    elif frame.makes is not Makes.PING:
        assert frame.type == expect["type"]


@pytest.mark.parametrize("case", cases("frames"), ids=named)
def test_no_frame_makes_the_parser_raise(case: Any) -> None:
    """[FRM2] No frame makes the parser raise; a ping is answered, an invalid frame is reported."""
    talk = listening(Position(0), 0, recovered=True)

    effects = talk.received(case["text"].encode(), now_ms=NOW)

    problems = [e.signal for e in only(effects, Notify) if isinstance(e.signal, Problem)]
    assert [p.code for p in problems if p.code == "BAD_FRAME"] == ["BAD_FRAME"] * (case["expect"]["makes"] == "bad")
    sent = [json.loads(effect.text) for effect in only(effects, Send)]
    if case["expect"]["makes"] == "ping":
        assert sent == [case["expect"]["sends"]]


@pytest.mark.parametrize("text", [b"\xff", b'{"type":"\xff"}', b"[" * 100_000, b'{"a":' * 100_000])
def test_invalid_utf8(text: bytes) -> None:
    """[FRM3] Invalid UTF-8 or excessive nesting is a bad frame like any other."""
    with pytest.raises(BadFrame):
        read_frame(text)


def test_an_event_with_unreadable_data_keeps_its_number() -> None:
    """[FRM4] An event whose data this version cannot parse keeps its number and carries plain objects."""
    talk = listening(Position(0), 0, recovered=True)
    frame = control("new_thread", {"thread_id": 5}, group_id=GROUP, seq=1, prev=first_prev(GROUP))

    effects = talk.received(frame, now_ms=NOW)

    event = only(effects, Deliver)[0].item
    assert isinstance(event, UnknownEvent)
    assert (event.type, event.seq, event.data) == ("new_thread", 1, {"thread_id": 5})


# Chapter: subscribing


def test_subscribes_after_auth_success() -> None:
    """[PYSUB1] A group requested before the connection opens is subscribed once it is open, from the current head."""
    talk = ClientProtocol()

    assert talk.subscribe(GROUP, None, now_ms=NOW) == []
    opened, asked = talk.received(hello(), now_ms=NOW)

    assert opened == Opened(USER, "anna", "s", 20)
    frame = json.loads(asked.text)
    assert frame["type"] == "subscribe"
    assert frame["data"] == {"group_ids": [GROUP]}


def test_position_goes_with_the_request() -> None:
    """[PYSUB2] A known position is sent with its hash; position 0 needs no hash."""
    talk = ClientProtocol()
    talk.received(hello(), now_ms=NOW)

    with_hash = talk.subscribe(GROUP, Position(7, "h" * 43), now_ms=NOW)
    from_start = talk.subscribe(OTHER, Position(0), now_ms=NOW)

    assert json.loads(with_hash[0].text)["data"]["since"] == {GROUP: {"seq": 7, "hash": "h" * 43}}
    assert json.loads(from_start[0].text)["data"]["since"] == {OTHER: 0}


def test_many_groups_are_subscribed_in_frames_below_the_limit() -> None:
    """[PYSUB3] 250 groups with positions are sent in three frames, each far below 64 KiB."""
    talk = ClientProtocol()
    for number in range(250):
        talk.subscribe(f"{number:08x}-0000-4000-8000-000000000000", Position(2**40, "h" * 43), now_ms=NOW)

    sent = only(talk.received(hello(), now_ms=NOW), Send)

    assert [len(json.loads(each.text)["data"]["group_ids"]) for each in sent] == [GROUPS_PER_FRAME, 100, 50]
    assert max(len(each.text) for each in sent) < 32_768


def test_from_now_starts_at_the_head() -> None:
    """[PYSUB4] Without a position the events after the confirmed head follow, and CaughtUp is reported at once."""
    log = log_of(6)
    talk = ClientProtocol()
    talk.subscribe(GROUP, None, now_ms=NOW)
    talk.received(hello(), now_ms=NOW)

    effects = talk.received(subscribed(5), now_ms=NOW)

    assert only(effects, SubscriptionConfirmed) == [SubscriptionConfirmed(GROUP, 5)]
    assert marks(effects) == [CaughtUp(group_id=GROUP, seq=5)]
    assert seqs(talk.received(log.frames[5], now_ms=NOW)) == [6]
    assert talk.position(GROUP) == Position(6, digest(log.frames[5]))


def test_replay_then_live_events_in_order() -> None:
    """[PYSUB5] A replay arrives in order, CaughtUp is reported once at its end, and live events follow."""
    log = log_of(5)
    talk = listening(Position(2), 4, recovered=True)

    effects = [effect for frame in log.frames[2:] for effect in talk.received(frame, now_ms=NOW)]

    assert [e.item.seq for e in only(effects, Deliver)] == [3, 4, 4, 5]
    assert marks(effects) == [CaughtUp(group_id=GROUP, seq=4)]


def test_resumes_after_a_loss_with_the_hash() -> None:
    """[PYSUB6] A reconnection resumes after the last delivered event, with that event's hash."""
    log = log_of(3)
    talk = listening(Position(0), 3, recovered=True)
    for frame in log.frames:
        talk.received(frame, now_ms=NOW)

    talk.lost()
    sent = only(talk.received(hello(), now_ms=NOW), Send)

    assert json.loads(sent[0].text)["data"]["since"] == {GROUP: {"seq": 3, "hash": digest(log.frames[2])}}


def test_frames_before_the_confirmation_are_ignored() -> None:
    """[PYSUB7] A frame of an earlier subscription that arrives before the new confirmation is not delivered."""
    log = log_of(1)
    talk = ClientProtocol()
    talk.received(hello(), now_ms=NOW)
    talk.subscribe(GROUP, Position(0), now_ms=NOW)

    assert talk.received(log.frames[0], now_ms=NOW) == []


@pytest.mark.parametrize(
    "head, reason", [(9, ResetReason.GONE), (5, ResetReason.GONE), (3, ResetReason.AHEAD), (0, ResetReason.AHEAD)]
)
def test_not_recovered_is_a_reset(head: int, reason: ResetReason) -> None:
    """[PYSUB8] `recovered: false` yields a Reset with both positions; events after the head follow it."""
    talk = ClientProtocol()
    talk.subscribe(GROUP, Position(5, "h" * 43), now_ms=NOW)
    talk.received(hello(), now_ms=NOW)

    effects = talk.received(subscribed(head, recovered=False), now_ms=NOW)

    reset, caught_up = marks(effects)
    assert reset == Reset(group_id=GROUP, last_seq=5, seq=head, reason=reason)
    assert caught_up == CaughtUp(group_id=GROUP, seq=head)
    assert seqs(talk.received(log_of(head + 1).frames[head], now_ms=NOW)) == [head + 1]


def test_an_unsolicited_reset() -> None:
    """[PYSUB14] An unsolicited `subscribed` with `recovered: false` is a Reset unless everything was already read."""
    log = log_of(9)
    talk = listening(Position(0), 0, recovered=True)
    talk.received(log.frames[0], now_ms=NOW)

    assert talk.received(subscribed(1, recovered=False), now_ms=NOW) == []
    assert talk.received(subscribed(7), now_ms=NOW) == []
    effects = talk.received(subscribed(7, recovered=False), now_ms=NOW)

    assert marks(effects) == [Reset(group_id=GROUP, last_seq=1, seq=7, reason=ResetReason.GONE)]
    assert seqs(talk.received(log.frames[7], now_ms=NOW)) == [8]


def test_forbidden_ends_only_the_groups_it_names() -> None:
    """[PYSUB9] A group that the user is not a member of ends with NotAMember; the other groups continue."""
    talk = ClientProtocol()
    talk.subscribe(GROUP, Position(0), now_ms=NOW)
    talk.subscribe(OTHER, None, now_ms=NOW)
    sent = only(talk.received(hello(), now_ms=NOW), Send)
    request = json.loads(sent[0].text)["id"]

    error = {"code": "FORBIDDEN", "message": "No.", "group_ids": [OTHER]}
    effects = talk.received(control("error", error, reply_to=request), now_ms=NOW)

    (ended,) = only(effects, Ended)
    assert (ended.group_id, type(ended.error)) == (OTHER, NotAMember)
    talk.received(subscribed(1, recovered=True), now_ms=NOW)
    assert seqs(talk.received(log_of(1).frames[0], now_ms=NOW)) == [1]


def test_a_malformed_request_ends_its_groups() -> None:
    """[PYSUB10] A subscribe that the server calls invalid is not repeated endlessly: its groups end with the reason."""
    talk = ClientProtocol()
    talk.subscribe("no-uuid", None, now_ms=NOW)
    sent = only(talk.received(hello(), now_ms=NOW), Send)
    request = json.loads(sent[0].text)["id"]

    error = {"code": "VALIDATION_ERROR", "message": "That is no id."}
    (ended,) = only(talk.received(control("error", error, reply_to=request), now_ms=NOW), Ended)

    assert isinstance(ended.error, SubscribeRefused)
    assert str(ended.error) == "That is no id."


def test_a_failed_subscribe_is_retried_on_a_new_connection() -> None:
    """[PYSUB11] If the server cannot answer a subscribe, the client reconnects after a pause."""
    talk = ClientProtocol()
    talk.subscribe(GROUP, None, now_ms=NOW)
    sent = only(talk.received(hello(), now_ms=NOW), Send)
    request = json.loads(sent[0].text)["id"]

    effects = talk.received(control("error", {"code": "UNAVAILABLE", "message": "Wait."}, reply_to=request), now_ms=NOW)

    assert only(effects, Reconnect) == [Reconnect("Wait.")]


@pytest.mark.parametrize("reason", ["left", "removed"])
def test_leaving_ends_the_stream(reason: str) -> None:
    """[PYSUB12] After the user left or was removed, the stream yields the earlier events and ends without an error."""
    talk = listening(Position(0), 0, recovered=True)

    effects = talk.received(control("unsubscribed", {"group_ids": [GROUP, OTHER], "reason": reason}), now_ms=NOW)

    assert effects == [Ended(GROUP, None, reason)]
    assert talk.received(log_of(1).frames[0], now_ms=NOW) == []


def test_unsubscribe_is_sent_once_where_subscribed() -> None:
    """[PYSUB13] A group is unsubscribed once, and only on a connection on which it was subscribed."""
    talk = listening(None, 0)

    (sent,) = talk.unsubscribe(GROUP, now_ms=NOW)
    assert json.loads(sent.text)["data"] == {"group_ids": [GROUP]}
    assert talk.unsubscribe(GROUP, now_ms=NOW) == []
    talk.subscribe(OTHER, None, now_ms=NOW)
    talk.lost()
    assert talk.unsubscribe(OTHER, now_ms=NOW) == []


# Chapter: behind


def test_a_gap_is_read_from_the_log() -> None:
    """[GAP1] An event beyond the next number triggers one read of the gap, and everything is delivered in order."""
    log = log_of(6)
    talk = listening(Position(0), 0, recovered=True)
    talk.received(log.frames[0], now_ms=NOW)

    (fetch,) = talk.received(log.frames[3], now_ms=NOW)
    assert (fetch.group_id, fetch.after, fetch.pause_ms) == (GROUP, 1, 0)
    assert talk.received(log.frames[4], now_ms=NOW) == []

    assert seqs(talk.page(GROUP, fetch.ticket, log.frames[1:5])) == [2, 3, 4, 5]
    assert seqs(talk.received(log.frames[5], now_ms=NOW)) == [6]


def test_a_short_page_is_followed_by_another_read() -> None:
    """[GAP2] Reading continues up to the highest announced number; after an empty page it waits one second."""
    log = log_of(9)
    talk = listening(Position(0), 0, recovered=True)
    (fetch,) = talk.received(log.frames[8], now_ms=NOW)

    *_, again = talk.page(GROUP, fetch.ticket, log.frames[:4])
    assert (again.after, again.pause_ms) == (4, 0)
    (later,) = talk.page(GROUP, again.ticket, [])
    assert (later.after, later.pause_ms) == (4, EMPTY_PAGE_PAUSES_MS[0])
    assert seqs(talk.page(GROUP, later.ticket, log.frames[4:])) == [5, 6, 7, 8, 9]


def test_the_page_of_a_cancelled_read_is_ignored() -> None:
    """[GAP3] The response to a cancelled read is ignored."""
    log = log_of(5)
    talk = listening(Position(0), 0, recovered=True)
    (fetch,) = talk.received(log.frames[4], now_ms=NOW)
    talk.unsubscribe(GROUP, now_ms=NOW)
    assert talk.page(GROUP, fetch.ticket, log.frames) == []
    talk.subscribe(GROUP, Position(0), now_ms=NOW)

    assert talk.page(GROUP, fetch.ticket, log.frames) == []
    assert talk.page_gone(GROUP, fetch.ticket, 3) == []
    assert talk.page_refused(GROUP, fetch.ticket, NotAMember(GROUP)) == []


def test_a_log_without_the_missing_events_is_a_reset() -> None:
    """[GAP4] If the log no longer keeps the missing events, a Reset is yielded and the remaining events follow."""
    log = log_of(9)
    talk = listening(Position(0), 0, recovered=True)
    (fetch,) = talk.received(log.frames[8], now_ms=NOW)

    reset, more = talk.page_gone(GROUP, fetch.ticket, 6)

    assert reset.item == Reset(group_id=GROUP, last_seq=0, seq=5, reason=ResetReason.GONE)
    assert more.after == 5
    assert seqs(talk.page(GROUP, more.ticket, log.frames[5:])) == [6, 7, 8, 9]


def test_a_refused_page_ends_the_stream() -> None:
    """[GAP5] If access to the log is refused, the stream ends with the reason."""
    talk = listening(Position(0), 0, recovered=True)
    (fetch,) = talk.received(log_of(3).frames[2], now_ms=NOW)

    (ended,) = talk.page_refused(GROUP, fetch.ticket, NotAMember(GROUP))

    assert isinstance(ended.error, NotAMember)


def test_a_slow_reader_costs_no_memory_and_no_event() -> None:
    """[GAP6] A full buffer accepts no events; once the reader has consumed half, the rest is read from the log."""
    log = log_of(30)
    talk = listening(Position(0), 0, recovered=True, capacity=10)
    talk.taken(GROUP)  # the CaughtUp

    first = [seq for frame in log.frames for seq in seqs(talk.received(frame, now_ms=NOW))]
    assert first == list(range(1, 11))
    assert talk.taken(GROUP, 4) == []
    (fetch,) = talk.taken(GROUP)
    assert (fetch.after, fetch.limit) == (10, 5)
    page = talk.page(GROUP, fetch.ticket, log.frames[10:15])
    assert seqs(page) == [11, 12, 13, 14, 15]
    assert only(page, Fetch) == []


def test_bad_frames_in_a_page_are_reported() -> None:
    """[GAP7] An invalid frame in a page is reported, and the valid ones are used."""
    log = log_of(2)
    talk = listening(Position(0), 0, recovered=True)
    (fetch,) = talk.received(log.frames[1], now_ms=NOW)

    effects = talk.page(GROUP, fetch.ticket, [b"<html>", log.frames[0], log.frames[1]])

    assert seqs(effects) == [1, 2]
    assert [e.signal.code for e in only(effects, Notify)] == ["BAD_FRAME"]


# Chapter: the chain


def test_a_changed_frame_is_detected() -> None:
    """[VER1] With `verify`, an event whose hash does not chain to its predecessor ends the stream undelivered."""
    honest, other = log_of(3), log_of(3)
    talk = listening(Position(0), 0, recovered=True, verify=True)
    talk.received(honest.frames[0], now_ms=NOW)

    (ended,) = talk.received(other.frames[1], now_ms=NOW)

    assert isinstance(ended.error, ChainBroken)
    assert ended.error.seq == 2
    assert talk.received(honest.frames[1], now_ms=NOW) == []


def test_a_changed_frame_in_the_log_is_detected() -> None:
    """[VER2] Events read over REST are verified in the same way, and nothing after the break is delivered."""
    honest, other = log_of(6), log_of(6)
    talk = listening(Position(0), 0, recovered=True, verify=True)
    (fetch,) = only(talk.received(honest.frames[5], now_ms=NOW), Fetch)

    effects = talk.page(GROUP, fetch.ticket, [*honest.frames[:3], *other.frames[3:]])

    assert seqs(effects) == [1, 2, 3]
    (ended,) = only(effects, Ended)
    assert isinstance(ended.error, ChainBroken)
    assert ended.error.seq == 4


def test_verification_continues_after_a_loss() -> None:
    """[VER3] The hash is kept over reconnects, so a log that was replaced meanwhile is detected."""
    honest, other = log_of(3), log_of(3)
    talk = listening(Position(0), 0, recovered=True, verify=True)
    for frame in honest.frames[:2]:
        talk.received(frame, now_ms=NOW)
    talk.lost()
    talk.received(hello(), now_ms=NOW)
    talk.received(subscribed(3, recovered=True), now_ms=NOW)

    (ended,) = only(talk.received(other.frames[2], now_ms=NOW), Ended)

    assert isinstance(ended.error, ChainBroken)


# Chapter: the rest


def test_signals() -> None:
    """[SIG1] Typing indicators, events without a number and the server's errors are reported."""
    talk = listening(None, 0)
    typing = {"thread_id": "t", "user_id": USER, "username": "anna", "is_typing": True}

    (notice,) = talk.received(control("typing_indicator", typing), now_ms=NOW)
    assert notice.signal == Typing(
        data=wire.TypingIndicator(thread_id="t", user_id=USER, username="anna", is_typing=True), server_timestamp=STAMP
    )
    (notice,) = talk.received(control("new_thread", {"thread_id": "t"}), now_ms=NOW)
    assert notice.signal == Unnumbered(type="new_thread", data={"thread_id": "t"}, server_timestamp=STAMP)
    (notice,) = talk.received(control("error", {"code": "TOO_MANY_REQUESTS", "message": "Slow.", "n": 1}), now_ms=NOW)
    assert notice.signal == Problem(code="TOO_MANY_REQUESTS", message="Slow.", details={"n": 1})
    assert talk.received(control("token_expiring", {"expires_at": ""}), now_ms=NOW) == [RenewToken()]


def test_typing_is_not_sent_without_a_connection() -> None:
    """[SIG2] Typing and a new token are sent only on an open connection."""
    talk = ClientProtocol()
    assert talk.typing("t", True, now_ms=NOW) == []
    assert talk.authenticate("x", now_ms=NOW) == []

    talk.received(hello(), now_ms=NOW)

    (typing,) = talk.typing("t", True, now_ms=NOW)
    assert json.loads(typing.text)["data"] == {"thread_id": "t", "is_typing": True}
    (token,) = talk.authenticate("x", now_ms=NOW)
    assert json.loads(token.text)["data"] == {"token": "x"}


def test_typing_is_throttled() -> None:
    """[TYP1] `typing: true` is sent at most every 3 s, and the stop 5 s after the last keystroke."""
    throttle = TypingThrottle()

    said = [at for at in range(0, 10_000, 100) if throttle.start(now_ms=at)]

    assert said == [0, 3_000, 6_000, 9_000]
    assert throttle.silent_in_ms(now_ms=10_000) == 4_900
    assert throttle.silent_in_ms(now_ms=20_000) == 0
    assert throttle.stop()
    assert not throttle.stop()


def test_failures_are_counted_since_the_last_open() -> None:
    """[LIN1] Back-off grows with consecutive failures, resets after an open connection, and obeys Retry-After."""
    line = ReconnectPolicy(Backoff(jitter_ms=0))

    waits = [line.failed(now_ms=0, random=0, opened=False) for _ in range(3)]
    assert waits == [2_000, 4_000, 8_000]
    line.opened()
    assert line.failed(now_ms=0, random=0, opened=True) == 1_000
    assert line.failed(now_ms=0, random=0, opened=False, retry_after_ms=30_000) == 30_000
    assert line.wake(now_ms=10_000) == 0, "who asks does not wait for a Retry-After"


def test_at_most_five_attempts_a_minute() -> None:
    """[LIN2] Repeated wakes make five attempts and then wait for the one-minute window to pass."""
    line = ReconnectPolicy()

    waits = []
    for at in range(6):
        waits.append(line.wake(now_ms=at))
        line.dialed(now_ms=at)

    assert waits == [0, 0, 0, 0, 0, 60_995]
    assert len(line.attempts_ms) == 5
    assert idle_limit_s(30) == 40


# Chapter: everything at once


@pytest.mark.parametrize("seed", range(60))
def test_in_any_sequence_each_event_is_delivered_once_and_in_order(seed: int) -> None:
    """[SIM1] With losses, gaps, duplicates, slow readers, late and torn pages the reader sees 1, 2, 3, … to the end."""
    print(f"seed {seed}")
    source = random.Random(seed)
    log = log_of(0)
    talk = ClientProtocol(verify=True, capacity=source.choice((2, 5, 50)))
    talk.subscribe(GROUP, Position(0), now_ms=NOW)
    read: list[int] = []
    fetches: list[Fetch] = []
    buffer: list[Any] = []
    wire_: list[bytes] = []
    empties: list[bool] = []

    def apply(effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Deliver(item=item):
                    buffer.append(item)
                case Fetch():
                    fetches.append(effect)
                case Send(text=text) if json.loads(text)["type"] == "subscribe":
                    since = json.loads(text)["data"]["since"][GROUP]
                    seq = since if isinstance(since, int) else since["seq"]
                    wire_.append(subscribed(len(log.frames), recovered=True))
                    wire_.extend(log.after(seq))
                case Ended(error=error):
                    raise AssertionError(f"the stream ended: {error}")
        assert len(buffer) <= talk._capacity + 1

    def step(choice: float) -> None:
        if choice < 0.05:
            talk.lost()
            wire_.clear()
            wire_.append(hello())
        elif choice < 0.35:
            frame = log.append()
            if talk.is_open and source.random() < 0.7:  # else the server forgot it
                wire_.append(frame)
        elif choice < 0.40 and log.frames and talk.is_open:
            wire_.append(source.choice(log.frames))  # a repeat
        elif choice < 0.70 and wire_:
            apply(talk.received(wire_.pop(0), now_ms=NOW))
        elif choice < 0.85 and fetches:
            fetch = fetches.pop(source.randrange(len(fetches)))
            frames = log.after(fetch.after)[: fetch.limit]
            some = frames[: source.randint(0, len(frames))]
            # A log that returns nothing five times although it holds more would be reported as a lie.
            empties.append(not some)
            if len(empties) > 3 and all(empties[-3:]):
                some = frames[:1]
            apply(talk.page(GROUP, fetch.ticket, some))
        elif buffer:
            item = buffer.pop(0)
            if not isinstance(item, CaughtUp):
                read.append(item.seq)
            apply(talk.taken(GROUP))

    wire_.append(hello())
    for _ in range(600):
        step(source.random())
    # Then the weather clears: one more event on a connection that holds shows whatever is missing.
    talk.lost()
    wire_[:] = [hello()]
    log.append()
    for _ in range(5_000):
        step(source.uniform(0.4, 1))
        if not wire_ and read and read[-1] == len(log.frames):
            break

    assert read == list(range(1, len(log.frames) + 1))
