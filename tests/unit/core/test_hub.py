"""The hub, alone: who gets what, in which order, in how many writes."""

from __future__ import annotations

import pytest

from orbital_relay import wire
from orbital_relay.core.chain import HASH_LENGTH, digest
from orbital_relay.core.cursor import Verdict
from orbital_relay.core.framing import text_frame
from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import TAIL_EVENTS, Listener
from orbital_relay.model import Event, Head


class Ear(Listener):
    """A listener that keeps what it gets."""

    def __init__(self, user_id="user-1", *, deflate=False):
        super().__init__(1, user_id)
        self.deflate = deflate
        self.writes = []
        self.reported = []
        self.full_after = None

    def send(self, wire):
        self.writes.append(wire)
        if self.full_after is not None and len(self.writes) >= self.full_after:
            self.hub.pause(self)

    def lost(self, group_id, reason):
        self.reported.append(("lost", group_id, reason))

    def reset(self, group_id, seq):
        self.reported.append(("reset", group_id, seq))


def _who(frame):
    data = wire.event_data(frame)
    return data.user_id, getattr(data, "reason", "")


_HEAD_HASH = "h" * HASH_LENGTH
_hashes: dict[tuple[str, int], str] = {}
"""The hash of each event that a test made, by group and number: the next one carries it."""


@pytest.fixture
def hub():
    """Return a hub whose compressed frames differ visibly from plain ones."""
    _hashes.clear()
    return Hub(who=_who, compress=lambda text: b"<" + text + b">")


def _head(seq):
    return Head(seq, 0, 0, _HEAD_HASH)


def _sealed(data, group_id, seq, stamp_ms):
    prev = _hashes.get((group_id, seq - 1), _HEAD_HASH)
    frame = wire.seal(data, group_id=group_id, seq=seq, stamp_ms=stamp_ms, prev=prev)
    _hashes[group_id, seq] = digest(frame)
    return Event(group_id, seq, stamp_ms, frame)


def _message(group_id, seq, stamp_ms):
    return _sealed(wire.NewMessage("m", group_id, "AA", stamp_ms, "u"), group_id, seq, stamp_ms)


def _member(data, seq, stamp_ms):
    return _sealed(data, data.group_id, seq, stamp_ms)


def _listen(hub, ear, *group_ids, seq=0):
    ear.hub = hub
    for group_id in group_ids:
        group = hub.group(group_id)
        group.open(_head(seq))
        hub.subscribe(ear, group, start=group.last)
        hub.release(group)
    return ear


def _text(*events):
    return b"".join(text_frame(event.frame) for event in events)


def test_the_events_of_a_tick_are_one_write(hub):
    """[HUB1] The events of one loop iteration are sent in one write, in order, the same bytes to every subscriber."""
    ears = [_listen(hub, Ear(), "a") for _ in range(3)]
    events = [_message("a", seq, seq) for seq in (1, 2, 3)]

    for event in events:
        assert hub.offer(event) is Verdict.NEXT
    assert hub.dirty
    hub.flush()

    assert not hub.dirty
    assert all(ear.writes == [_text(*events)] for ear in ears)
    assert ears[0].writes[0] is ears[1].writes[0]
    assert hub.deliveries == 9


def test_several_groups_keep_the_order_of_stamps(hub):
    """[ORD2] A listener of several groups receives their events of a tick in storage order."""
    both, other, one = _listen(hub, Ear(), "a", "b"), _listen(hub, Ear(), "b", "a"), _listen(hub, Ear(), "b")
    events = [_message("a", 1, 1), _message("b", 1, 2), _message("a", 2, 3)]

    for event in events:
        hub.offer(event)
    hub.flush()

    assert both.writes == other.writes == [_text(*events)]
    assert one.writes == [_text(events[1])]
    assert both.last_stamp_ms == 3


def test_compressed_frames_are_made_once(hub):
    """[PMD1] Listeners that accept compression receive frames compressed once for all; the others plain frames."""
    made = []
    hub = Hub(who=_who, compress=lambda text: made.append(text) or b"<" + text + b">")
    plain = _listen(hub, Ear(), "a", "b")
    small = [_listen(hub, Ear(deflate=True), "a", "b") for _ in range(2)]
    first, second, third = _message("a", 1, 1), _message("a", 2, 2), _message("b", 1, 3)

    hub.offer(first)
    hub.flush()
    hub.offer(second)
    hub.offer(third)
    hub.flush()

    squeezed = [b"<" + event.frame + b">" for event in (first, second, third)]
    assert plain.writes == [_text(first), _text(second, third)]
    assert all(ear.writes == [squeezed[0], squeezed[1] + squeezed[2]] for ear in small)
    assert len(made) == 3
    hub.drop(small[0])
    assert hub.groups["a"].deflaters == 1
    hub.drop(small[1])
    assert hub.groups["a"].deflaters == 0


def test_a_compressed_frame_is_reused():
    """[PMD1] A frame is compressed once, also when two listeners receive it along with different groups."""
    made = []
    hub = Hub(who=_who, compress=lambda text: made.append(text) or b"<" + text + b">")
    one, both = _listen(hub, Ear(deflate=True), "a"), _listen(hub, Ear(deflate=True), "a", "b")
    first, second = _message("a", 1, 1), _message("b", 1, 2)

    hub.offer(first)
    hub.offer(second)
    hub.flush()

    assert one.writes == [b"<" + first.frame + b">"]
    assert both.writes == [b"<" + first.frame + b"><" + second.frame + b">"]
    assert len(made) == 2
    assert hub.bytes_out == 3 * len(b"<" + first.frame + b">")


def test_duplicate_and_gap(hub):
    """[ORD1] A duplicate event is dropped; one beyond the next is not delivered before the gap is filled."""
    ear = _listen(hub, Ear(), "a", seq=4)
    events = [_message("a", seq, seq) for seq in (5, 6, 7, 8)]

    verdicts = [hub.offer(events[index]) for index in (0, 0, 2, 1, 0)]
    hub.flush()

    assert verdicts == [Verdict.NEXT, Verdict.SEEN, Verdict.GAP, Verdict.NEXT, Verdict.SEEN]
    assert ear.writes == [_text(*events[:2])]
    assert not hub.groups["a"].doubted
    assert hub.groups["a"].highest_seen == 7


def test_a_group_without_listeners(hub):
    """[HUB2] Events of a group without local listeners cost one look-up and keep no state."""
    assert hub.offer(_message("a", 1, 1)) is None
    assert hub.groups == {}
    hub.flush()


def test_an_opening_group_records_numbers(hub):
    """[HUB2] Before its head is read, a group only records that events passed; then it reads the log."""
    group = hub.group("a")

    assert hub.offer(_message("a", 4, 1)) is None
    assert group.last == 0
    assert group.open(_head(3))
    assert group.last == 3
    assert not group.open(_head(9)) or group.last == 3


def test_subscribing_to_a_closed_group_raises(hub):
    """[HUB2] A group is opened before its first listener is added."""
    with pytest.raises(AssertionError, match=r"^a group is open before"):
        hub.subscribe(Ear(), hub.group("a"), start=0)


def test_a_listener_receives_nothing_older_than_its_subscription(hub):
    """[PROM4] Events of the same tick that are older than the subscription do not reach it."""
    first = _listen(hub, Ear(), "a")
    hub.offer(_message("a", 1, 1))

    late = _listen(hub, Ear(), "a")
    hub.offer(_message("a", 2, 2))
    hub.flush()

    assert first.writes == [_text(_message("a", 1, 1)), _text(_message("a", 2, 2))]
    assert late.writes == [_text(_message("a", 2, 2))]


def test_leaving(hub):
    """[SUB2] A user who left receives the events before, and none after; a group without listeners is deleted."""
    dropped = []
    hub = Hub(who=_who, compress=bytes, dropped=dropped.append)
    ear = _listen(hub, Ear(), "a")
    hub.offer(_message("a", 1, 1))

    assert hub.leave(ear, "a")
    assert not hub.leave(ear, "a")
    hub.offer(_message("a", 2, 2))
    hub.flush()

    assert ear.writes == [_text(_message("a", 1, 1))]
    assert dropped == ["a"]
    assert hub.groups == {}
    assert hub.subscriptions == 0


def test_removal_takes_effect_at_its_position(hub):
    """[PROM1] The listeners of a removed user receive the user's member_left as the last event; the others continue."""
    ada, bob = _listen(hub, Ear("ada"), "a"), _listen(hub, Ear("bob"), "a")
    first = _message("a", 1, 1)
    left = _member(wire.MemberLeft("a", "ada", "ada", "t", "removed"), 2, 2)
    events = [first, left, _message("a", 3, 3)]

    for event in events:
        hub.offer(event)
    hub.flush()

    assert b"".join(ada.writes) == _text(*events[:2])
    assert ada.reported == [("lost", "a", "removed")]
    assert b"".join(bob.writes) == _text(*events)
    assert hub.groups["a"].departed == {"ada": 2}

    hub.offer(_member(wire.MemberJoined("a", "ada", "ada", "t"), 4, 4))
    assert hub.groups["a"].departed == {}


def test_removal_of_a_listener_that_is_behind(hub):
    """[PROM1] A listener that is behind is notified of the last number that it may receive."""
    ada = _listen(hub, Ear("ada"), "a")
    bob = _listen(hub, Ear("bob"), "a")
    hub.mark_behind(ada)
    hub.mark_behind(bob)

    hub.offer(_message("a", 1, 1))
    hub.offer(_member(wire.MemberLeft("a", "ada", "ada", "t", "left"), 2, 2))
    hub.offer(_message("a", 3, 3))
    hub.flush()

    subscription = ada.subscriptions["a"]
    assert (subscription.goal, subscription.reason) == (2, "left")
    assert not hub.mark_current(ada)
    assert ada.writes == []
    assert bob.subscriptions["a"].goal == 3


def test_a_full_transport_marks_its_listener_behind(hub):
    """[SLOW1] A listener with a full buffer gets no writes and keeps its position; the others are unaffected."""
    slow, quick = _listen(hub, Ear(), "a"), _listen(hub, Ear(), "a")
    slow.full_after = 1
    events = [_message("a", seq, seq) for seq in range(1, 5)]

    hub.offer(events[0])
    hub.flush()
    assert slow.behind
    assert slow.subscriptions["a"].position == 1
    for event in events[1:]:
        hub.offer(event)
        hub.flush()

    assert slow.writes == [_text(events[0])]
    assert quick.writes == [_text(event) for event in events]
    assert hub.behind == {slow}


def test_catch_up_from_the_tail(hub):
    """[SLOW1] Missed events that are in memory are written in one piece, in order, and the listener is current."""
    slow = _listen(hub, Ear(), "a", "b")
    hub.mark_behind(slow)
    events = [_message("a", 1, 1), _message("b", 1, 2), _message("a", 2, 3)]
    for event in events:
        hub.offer(event)
    hub.flush()
    assert slow.writes == []

    assert hub.mark_current(slow)

    assert slow.writes == [_text(*events)]
    assert slow.behind is False
    assert hub.behind == set()
    assert hub.groups["a"].tail_bytes == 0
    hub.offer(_message("b", 2, 4))
    hub.flush()
    assert slow.writes[1:] == [_text(_message("b", 2, 4))]


def test_catch_up_without_missed_events(hub):
    """[SLOW1] A listener that missed nothing is current at once; a group keeps its tail while another is behind."""
    slow, slower = _listen(hub, Ear(), "a"), _listen(hub, Ear(), "a")
    hub.mark_behind(slow)
    hub.mark_behind(slower)

    assert hub.mark_current(slow)

    assert slow.writes == []
    assert hub.groups["a"].behind == {slower}


def test_catch_up_with_compression(hub):
    """[PMD1] Missed events are sent compressed to a listener that accepts compression."""
    slow = _listen(hub, Ear(deflate=True), "a")
    hub.mark_behind(slow)
    hub.offer(_message("a", 1, 1))

    assert hub.mark_current(slow)

    assert slow.writes == [b"<" + _message("a", 1, 1).frame + b">"]


def test_catch_up_with_a_full_transport(hub):
    """[SLOW1] If the last write fills the transport, the listener is behind again, at the end of that write."""
    slow = _listen(hub, Ear(), "a")
    hub.mark_behind(slow)
    slow.full_after = 1
    hub.offer(_message("a", 1, 1))

    assert not hub.mark_current(slow)

    assert slow.behind
    assert slow.subscriptions["a"].position == 1


def test_memory_is_bounded(hub):
    """[SLOW2] The tail of a group is bounded; a listener that needs older events reads the log."""
    slow = _listen(hub, Ear(), "a")
    hub.mark_behind(slow)

    for seq in range(1, TAIL_EVENTS + 10):
        hub.offer(_message("a", seq, seq))
        hub.flush()

    assert len(hub.groups["a"].tail) == TAIL_EVENTS
    assert not hub.mark_current(slow)


def test_resuming_marks_the_listener_behind(hub):
    """[PROM4] A listener that requests older events is behind in all its groups, at its position in each."""
    ear = _listen(hub, Ear(), "a", seq=3)
    group = hub.group("b")
    group.open(_head(9))

    hub.subscribe(ear, group, start=4)

    assert ear.behind
    assert {name: one.position for name, one in ear.subscriptions.items()} == {"a": 3, "b": 4}
    third = hub.group("c")
    third.open(_head(2))
    hub.subscribe(ear, third, start=2)
    assert ear in third.behind


def test_marking_behind_twice(hub):
    """[SLOW1] Parking a listener that is already behind, or removed, has no effect."""
    ear = _listen(hub, Ear(), "a")
    hub.mark_behind(ear)
    hub.offer(_message("a", 1, 1))
    hub.mark_behind(ear)
    assert ear.subscriptions["a"].position == 0

    hub.drop(ear)
    hub.pause(ear)

    assert hub.behind == set()
    assert hub.groups == {}


def test_marking_behind_flushes_first(hub):
    """[SLOW1] Queued events are written before a listener is parked, even if that fills its transport."""
    ear = _listen(hub, Ear(), "a")
    ear.full_after = 1
    hub.offer(_message("a", 1, 1))

    hub.mark_behind(ear)

    assert ear.subscriptions["a"].position == 1
    assert ear.is_paused


def test_a_gap_in_the_log(hub):
    """[PROM4] If the log no longer keeps the events, the listeners are unsubscribed, and may subscribe again."""
    current, behind = _listen(hub, Ear(), "a"), _listen(hub, Ear(), "a")
    hub.mark_behind(behind)
    group = hub.group("a")

    assert set(hub.skip(group, 7)) == {current, behind}

    assert group.last == 7
    assert current.subscriptions == behind.subscriptions == {}
    assert hub.groups == {"a": group}
    assert hub.skip(group, 3) == []
    late = _listen(hub, Ear(), "a")
    assert hub.skip(group, 7) == []
    assert hub.skip(hub.group("b"), 7) == []
    assert set(late.subscriptions) == {"a"}


@pytest.mark.parametrize(
    "seq, stamp_ms, chained",
    [(4, 9, False), (3, 3, False), (2, 9, True)],
    ids=["the next number after another frame", "the last number again", "an older number that is younger"],
)
def test_an_event_of_another_log(hub, seq, stamp_ms, chained):
    """[REWIND1] An event that does not chain to the last delivered one is not delivered, and the group is checked."""
    ear = _listen(hub, Ear(), "a")
    for each in (1, 2, 3):
        hub.offer(_message("a", each, each))
    hub.flush()
    if not chained:
        _hashes["a", seq - 1] = "x" * HASH_LENGTH

    assert hub.offer(_message("a", seq, stamp_ms)) is Verdict.GAP
    hub.flush()

    assert hub.groups["a"].doubted
    assert hub.groups["a"].last == 3
    assert len(ear.writes) == 1


def test_a_rewound_log(hub):
    """[REWIND2] After a rewind all state of the lost events is deleted: positions, members who left, and listeners."""
    current, behind = _listen(hub, Ear("ada"), "a"), _listen(hub, Ear("bob"), "a")
    hub.mark_behind(behind)
    hub.offer(_message("a", 1, 1))
    hub.offer(_member(wire.MemberLeft("a", "cy", "cy", "t", "removed"), 2, 2))
    group = hub.group("a")
    group.doubted = True

    assert set(hub.rewind(group, Head(1, 0, 44, _HEAD_HASH))) == {current, behind}

    assert (group.last, group.highest_seen, group.departed, group.doubted) == (1, 1, {}, False)
    assert (group.epoch, group.unseen, group.hash) == (1, 1, _HEAD_HASH)
    assert current.subscriptions == behind.subscriptions == {}
    assert group.after(0) is None
    assert group.stamp_ms == 44
    hub.rewind(group, _head(0))
    assert (group.epoch, group.last) == (2, 0)
    hub.release(group)
    assert hub.groups == {}


def test_a_head_proves_a_rewind(hub):
    """[REWIND5] A head below the last delivered event, or with another hash at it, proves a rewind of the log."""
    _listen(hub, Ear(), "a")
    hub.offer(_message("a", 1, 1))
    before = hub.groups["a"].snapshot

    assert (before.epoch, before.seq, before.hash) == (0, 1, hub.groups["a"].hash)
    assert before.went_back(_head(0))
    assert before.went_back(_head(1))
    assert not before.went_back(_head(2))


def test_only_an_open_group_is_rewound(hub):
    """[REWIND6] A group without a known head cannot rewind."""
    with pytest.raises(AssertionError, match=r"^only a group that is open"):
        hub.rewind(hub.group("a"), _head(1))


def test_frames_that_are_not_events(hub):
    """[TYPE1] A frame that is not an event reaches the current listeners, after the events stored before it."""
    ada, bob, slow = _listen(hub, Ear("ada"), "a"), _listen(hub, Ear("bob"), "a"), _listen(hub, Ear("cy"), "a")
    hub.mark_behind(slow)
    hub.offer(_message("a", 1, 1))

    hub.send_ephemeral(hub.groups["a"], b"typing", but="ada", stamp_ms=2)

    assert ada.writes == [_text(_message("a", 1, 1))]
    assert bob.writes == [_text(_message("a", 1, 1)), b"typing"]
    assert slow.writes == []


def test_a_frame_that_is_not_an_event_fills_a_transport(hub):
    """[SLOW1] A frame that is not an event can be the one that fills a transport."""
    bob = _listen(hub, Ear("bob"), "a")
    bob.full_after = 1

    hub.send_ephemeral(hub.groups["a"], b"typing", but="ada", stamp_ms=2)

    assert bob.behind


def test_a_pin_keeps_a_group(hub):
    """[HUBPIN1] A group stays while one pin of several is left, and is deleted with the last."""
    group = hub.group("a")
    assert hub.group("a") is group

    hub.release(group)
    assert hub.groups == {"a": group}
    hub.release(group)

    assert hub.groups == {}


def test_subscriptions_are_counted_and_reported():
    """[HUBPIN2] Each subscription and each end of one is counted, and its group reported."""
    moved = []
    hub = Hub(who=_who, compress=bytes, moved=moved.append)
    ear, other = _listen(hub, Ear(), "a", "b"), _listen(hub, Ear(), "b")

    assert hub.subscriptions == 3
    hub.leave(ear, "a")
    hub.drop(other)

    assert hub.subscriptions == 1
    assert moved == ["a", "b", "b", "a", "b"]


def test_a_newcomer_joins(hub):
    """[HUBPIN3] The first `member_joined` of a user is delivered like any event: the user never left."""
    ear = _listen(hub, Ear(), "a")
    joined = _member(wire.MemberJoined("a", "ada", "ada", "t"), 1, 1)

    assert hub.offer(joined) is Verdict.NEXT
    hub.flush()

    assert ear.writes == [_text(joined)]
    assert hub.groups["a"].departed == {}


def test_the_tail_is_kept_for_listeners_that_are_behind(hub):
    """[SLOW2] A group keeps its tail when one of two listeners that are behind leaves, and deletes it with the last."""
    slow, slower, quick = (_listen(hub, Ear(), "a") for _ in range(3))
    hub.mark_behind(slow)
    hub.mark_behind(slower)
    hub.offer(_message("a", 1, 1))

    hub.leave(slow, "a")
    assert len(hub.groups["a"].tail) == 1
    hub.leave(slower, "a")

    assert len(hub.groups["a"].tail) == 0
    assert quick.writes == [_text(_message("a", 1, 1))]


def test_a_transport_that_fills_between_two_writes(hub):
    """[SLOW1] Outside a fan-out a listener whose transport is full is marked behind at once."""
    ears = [_listen(hub, Ear(), "a") for _ in range(3)]

    hub.pause(ears[0])
    assert hub.behind == {ears[0]}
    hub.offer(_message("a", 1, 1))
    hub.flush()
    hub.pause(ears[1])
    assert hub.behind == {ears[0], ears[1]}
    hub.send_ephemeral(hub.groups["a"], b"typing", but="bob", stamp_ms=2)
    hub.pause(ears[2])

    assert hub.behind == set(ears)


def test_a_listener_that_is_gone_is_not_marked_behind(hub):
    """[SLOW1] A transport that fills up after its connection ended leaves no state."""
    ear = _listen(hub, Ear(), "a")
    hub.drop(ear)

    hub.pause(ear)

    assert hub.behind == set()


def test_a_listener_implements_its_notifications():
    """[HUB1] A listener must implement its notifications: the base class is abstract."""
    with pytest.raises(TypeError, match=r"lost'?, '?reset'?, '?send"):
        Listener(1, "ada")
