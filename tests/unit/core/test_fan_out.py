"""The fan-out alone: one write for each listener and tick, and what is counted of it."""

from __future__ import annotations

from orbital_relay.core.fan_out import FanOut
from orbital_relay.core.framing import text_frame
from orbital_relay.core.live_group import Delivery, HubSubscription, Listener, LiveGroup
from orbital_relay.model import Event, Head


class Recorder(Listener):
    """A listener that keeps what is written to it, and whose transport may be full."""

    def __init__(self, fan_out: FanOut, user_id: str, *groups: LiveGroup, deflate: bool = False) -> None:
        super().__init__(1, user_id)
        self.deflate = deflate
        self.writes: list[bytes] = []
        self.fills = False
        self._fan_out = fan_out
        for group in groups:
            self.subscriptions[group.group_id] = HubSubscription(group, 0)
            group.current.add(self)
            group.deflaters += deflate

    def send(self, wire: bytes) -> None:
        """Keep it."""
        self.writes.append(wire)
        if self.fills:
            self._fan_out._paused.append(self)

    def lost(self, group_id: str, reason: str) -> None:
        """Nothing ends here."""

    def reset(self, group_id: str, seq: int) -> None:
        """Nothing is lost here."""


class Plain(FanOut):
    """A fan-out that notes whom it would mark behind."""

    def __init__(self) -> None:
        self.compressed: list[bytes] = []
        self.marked: list[Listener] = []
        super().__init__(compress=self._press)

    def _press(self, text: bytes) -> bytes:
        self.compressed.append(text)
        return b"<" + text + b"/>"

    def mark_behind(self, listener: Listener) -> None:
        """Note it."""
        self.marked.append(listener)

    def add(self, group: LiveGroup, seq: int) -> bytes:
        """Enqueue an event; return its frame."""
        frame = f"{group.group_id}-{seq}".encode()
        self._enqueue(group, Delivery(Event(group.group_id, seq, seq * 10, frame)))
        return frame


def group(name: str) -> LiveGroup:
    """Return an open group."""
    made = LiveGroup(name)
    made.open(Head(0, 0, 0, ""))
    return made


def test_a_tick_is_one_write_for_each_listener():
    """[FANOUT1] The events of a tick reach each listener in one write, compressed once for all that accept it."""
    fan_out, family = Plain(), group("g")
    plain, first, second = (
        Recorder(fan_out, "ann", family),
        Recorder(fan_out, "bob", family, deflate=True),
        Recorder(fan_out, "cat", family, deflate=True),
    )
    frames = [fan_out.add(family, 1), fan_out.add(family, 2)]

    assert fan_out.dirty
    fan_out.flush()
    fan_out.flush()

    assert not fan_out.dirty
    assert plain.writes == [b"".join(map(text_frame, frames))]
    assert first.writes == second.writes == [b"<g-1/><g-2/>"]
    assert fan_out.compressed == frames
    assert plain.last_stamp_ms == 20
    assert fan_out.deliveries == 6
    assert fan_out.bytes_plain == 3 * len(plain.writes[0])
    assert fan_out.bytes_out == len(plain.writes[0]) + 2 * len(b"<g-1/><g-2/>")


def test_an_ephemeral_frame_for_one_user():
    """[FANOUT9] An ephemeral frame is for all current listeners of a group, all but those of a user, or only those."""
    fan_out, family = Plain(), group("g")
    phone, laptop = Recorder(fan_out, "ann", family), Recorder(fan_out, "ann", family)
    other = Recorder(fan_out, "bob", family)

    fan_out.send_ephemeral(family, b"<only ann>", only="ann", stamp_ms=1)
    fan_out.send_ephemeral(family, b"<all but ann>", but="ann", stamp_ms=2)
    fan_out.send_ephemeral(family, b"<all>", stamp_ms=3)

    assert phone.writes == laptop.writes == [b"<only ann>", b"<all>"]
    assert other.writes == [b"<all but ann>", b"<all>"]
    assert (phone.last_stamp_ms, other.last_stamp_ms) == (3, 3)


def test_listeners_of_several_groups_get_one_write_in_order():
    """[FANOUT2] A listener of several groups receives the events of all of them in one write, in log order."""
    fan_out, one, two = Plain(), group("a"), group("b")
    both, alone = Recorder(fan_out, "ann", one, two), Recorder(fan_out, "bob", two)
    frames = [fan_out.add(one, 1), fan_out.add(two, 2), fan_out.add(one, 3)]

    fan_out.flush()

    assert both.writes == [b"".join(map(text_frame, frames))]
    assert alone.writes == [text_frame(frames[1])]


def test_a_full_transport_is_marked_behind_after_the_fan_out():
    """[FANOUT3] A listener whose transport fills up is marked behind after the fan-out to all, also by typing."""
    fan_out, family = Plain(), group("g")
    full, other = Recorder(fan_out, "ann", family), Recorder(fan_out, "bob", family)
    full.fills = True
    fan_out.add(family, 1)

    fan_out.flush()
    fan_out.send_ephemeral(family, b"typing", but="bob", stamp_ms=15)

    assert fan_out.marked == [full, full]
    assert len(other.writes) == 1
    assert full.writes[-1] == b"typing"
    assert (full.last_stamp_ms, other.last_stamp_ms) == (15, 10)


def test_nothing_is_compressed_for_plain_listeners():
    """[FANOUT4] No frame is compressed while no listener of its group accepts compression."""
    fan_out, one, two = Plain(), group("a"), group("b")
    Recorder(fan_out, "ann", one)
    Recorder(fan_out, "bob", two)

    fan_out.add(one, 1)
    fan_out.flush()
    fan_out.add(one, 2)
    fan_out.add(two, 1)
    fan_out.flush()

    assert fan_out.compressed == []


def test_listeners_with_the_same_groups_share_one_piece():
    """[FANOUT5] Listeners with the same groups receive one piece of bytes, joined once, and each byte is counted."""
    fan_out, one, two = Plain(), group("a"), group("b")
    # So many that some of each kind come first and last in a set.
    both = [Recorder(fan_out, "ann", one, two) for _ in range(8)]
    pressed = [Recorder(fan_out, "bob", one, two, deflate=True) for _ in range(8)]
    alone = [Recorder(fan_out, "cat", two) for _ in range(8)]
    small = [Recorder(fan_out, "dan", two, deflate=True) for _ in range(8)]

    for start in (0, 3):
        frames = [fan_out.add(one, start + 1), fan_out.add(two, start + 2), fan_out.add(two, start + 3)]
        fan_out.flush()

        deflated = [b"<" + frame + b"/>" for frame in frames]
        for listeners, wire, stamp_ms in (
            (both, b"".join(map(text_frame, frames)), start * 10 + 30),
            (pressed, b"".join(deflated), start * 10 + 30),
            (alone, b"".join(map(text_frame, frames[1:])), start * 10 + 30),
            (small, b"".join(deflated[1:]), start * 10 + 30),
        ):
            assert {id(each.writes[-1]) for each in listeners} == {id(listeners[0].writes[-1])}
            assert [each.writes[-1] for each in listeners] == [wire] * 8
            assert [each.last_stamp_ms for each in listeners] == [stamp_ms] * 8

    everyone = [*both, *pressed, *alone, *small]
    assert [len(each.writes) for each in everyone] == [2] * 32
    assert len(fan_out.compressed) == 6
    assert fan_out.deliveries == 2 * (16 * 3 + 16 * 2)
    assert fan_out.bytes_out == sum(len(wire) for each in everyone for wire in each.writes)
    assert fan_out.bytes_plain == 2 * sum(len(wire) for each in (*both, *alone) for wire in each.writes)


def test_the_counters_add_up_over_ticks():
    """[FANOUT6] What is counted of a tick is added to what was counted before."""
    fan_out, family = Plain(), group("g")
    plain, pressed = Recorder(fan_out, "ann", family), Recorder(fan_out, "bob", family, deflate=True)

    for seq in (1, 2):
        fan_out.add(family, seq)
        fan_out.flush()

    assert fan_out.deliveries == 4
    assert fan_out.bytes_plain == 2 * sum(map(len, plain.writes))
    assert fan_out.bytes_out == sum(map(len, [*plain.writes, *pressed.writes]))


def test_missed_events_are_written_in_one_piece():
    """[FANOUT7] A listener that is behind receives what it missed in one write; its positions move."""
    fan_out, one, two = Plain(), group("a"), group("b")
    plain, pressed = Recorder(fan_out, "ann", one, two), Recorder(fan_out, "bob", one, two, deflate=True)
    events = [
        Event("a", 1, 10, b"a-1"),
        Event("b", 1, 20, b"b-1"),
        Event("a", 2, 30, b"a-2"),
        Event("b", 2, 40, b"b-2"),
    ]

    for listener in (plain, pressed):
        for stretch in (events[:3], events[3:]):
            fan_out.write(listener, [Delivery(event) for event in stretch])
            assert listener.last_stamp_ms == stretch[-1].stamp_ms
            assert listener.subscriptions["a"].position == 2
        assert listener.subscriptions["b"].position == 2

    assert plain.writes == [b"".join(text_frame(each.frame) for each in part) for part in (events[:3], events[3:])]
    assert pressed.writes == [b"<a-1/><b-1/><a-2/>", b"<b-2/>"]
    assert fan_out.deliveries == 8
    assert fan_out.bytes_plain == 2 * sum(map(len, plain.writes))
    assert fan_out.bytes_out == sum(map(len, [*plain.writes, *pressed.writes]))
