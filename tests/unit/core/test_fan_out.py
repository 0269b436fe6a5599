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
        return b"<" + text + b">"

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
    assert first.writes == second.writes == [b"<g-1><g-2>"]
    assert fan_out.compressed == frames
    assert plain.last_stamp_ms == 20
    assert fan_out.deliveries == 6
    assert fan_out.bytes_plain == 3 * len(plain.writes[0])
    assert fan_out.bytes_out == len(plain.writes[0]) + 2 * len(b"<g-1><g-2>")


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
