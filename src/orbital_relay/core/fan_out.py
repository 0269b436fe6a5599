"""Fan-out (broadcast): write the events of one tick to every current listener, in as few writes as possible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from orbital_relay.core.live_group import Delivery, Listener, LiveGroup
from orbital_relay.model import UserId


class FanOut(ABC):
    """
    The writing side of the hub. It never decides who is subscribed.

    Attributes:
        deliveries: Events written to listeners.
        bytes_out: Bytes of them, as written.
        bytes_plain: Bytes of them before compression.
    """

    def __init__(self, *, compress: Callable[[bytes], bytes]) -> None:
        """
        Args:
            compress: Makes the compressed WebSocket frame of a text.
        """
        self._compress = compress
        self._active: list[LiveGroup] = []
        self._order: list[tuple[LiveGroup, Delivery]] = []
        self._flushing = False
        self._paused: list[Listener] = []
        self.deliveries = 0
        self.bytes_out = 0
        self.bytes_plain = 0

    @abstractmethod
    def mark_behind(self, listener: Listener) -> None:
        """Make a current listener one that is behind."""

    def _enqueue(self, group: LiveGroup, delivery: Delivery) -> None:
        """Write an event with the next `flush`."""
        if not group.tick:
            self._active.append(group)
        group.tick.append(delivery)
        self._order.append((group, delivery))

    @property
    def dirty(self) -> bool:
        """Whether events wait for `flush`."""
        return bool(self._order)

    def flush(self) -> None:
        """
        Write the events of this tick: to each current listener all of its events in one piece.

        A group's frames are joined once for all listeners with only that group in this tick, and the frames of each set
        of groups once for all listeners that share it.
        """
        if not self._order:
            return
        order, active = self._order, self._active
        self._order, self._active = [], []
        self._flushing = True
        try:
            if len(active) == 1:
                self._write_group(active[0])
            else:
                self._write_groups(active, order)
        finally:
            for group in active:
                group.tick.clear()
            self._flushing = False
        self._mark_paused()

    def _mark_paused(self) -> None:
        """Mark the listeners behind whose transport was full while events were written."""
        if self._paused:
            paused, self._paused = self._paused, []
            for listener in paused:
                self.mark_behind(listener)

    def _write_group(self, group: LiveGroup) -> None:
        tick = group.tick
        stamp_ms = tick[-1].event.stamp_ms
        plain = tick[0].plain if len(tick) == 1 else b"".join([d.plain for d in tick])
        deflated = self._join_deflated(tick) if group.deflaters else b""
        self._count(len(group.current), len(tick), len(plain), len(deflated), group.deflaters)
        for listener in group.current:
            listener.last_stamp_ms = stamp_ms
            listener.send(deflated if listener.deflate else plain)

    def _write_groups(self, active: list[LiveGroup], order: list[tuple[LiveGroup, Delivery]]) -> None:
        several: dict[Listener, tuple[int, ...]] = {}
        for index, group in enumerate(active):
            tick = group.tick
            stamp_ms = tick[-1].event.stamp_ms
            plain = tick[0].plain if len(tick) == 1 else b"".join([d.plain for d in tick])
            deflated = self._join_deflated(tick) if group.deflaters else b""
            alone = deflaters = 0
            for listener in group.current:
                # Most listen to one family only: no other groups of theirs have to be looked up in this tick.
                if len(listener.subscriptions) > 1:
                    several[listener] = (*several.get(listener, ()), index)
                    continue
                alone += 1
                listener.last_stamp_ms = stamp_ms
                if listener.deflate:
                    deflaters += 1
                    listener.send(deflated)
                else:
                    listener.send(plain)
            self._count(alone, len(tick), len(plain), len(deflated), deflaters)
        if several:
            self._write_several(several, active, order)

    def _write_several(
        self,
        several: dict[Listener, tuple[int, ...]],
        active: list[LiveGroup],
        order: list[tuple[LiveGroup, Delivery]],
    ) -> None:
        """Write to listeners of several groups: each set of groups that is shared is joined once."""
        joins: dict[tuple[int, ...], tuple[bytes, list[Delivery]]] = {}
        deflated_joins: dict[tuple[int, ...], bytes] = {}
        for listener, indexes in several.items():
            join = joins.get(indexes)
            if join is None:
                groups = {id(active[index]) for index in indexes}
                tick = [delivery for group, delivery in order if id(group) in groups]
                join = joins[indexes] = (b"".join([d.plain for d in tick]), tick)
            wire, tick = join
            listener.last_stamp_ms = tick[-1].event.stamp_ms
            self.deliveries += len(tick)
            self.bytes_plain += len(wire)
            if listener.deflate:
                deflated = deflated_joins.get(indexes)
                if deflated is None:
                    deflated = deflated_joins[indexes] = self._join_deflated(tick)
                wire = deflated
            self.bytes_out += len(wire)
            listener.send(wire)

    def _join_deflated(self, tick: Iterable[Delivery]) -> bytes:
        compress = self._compress
        return b"".join([delivery.deflated(compress) for delivery in tick])

    def _count(self, listeners: int, events: int, plain: int, deflated: int, deflaters: int) -> None:
        self.deliveries += listeners * events
        self.bytes_plain += listeners * plain
        self.bytes_out += (listeners - deflaters) * plain + deflaters * deflated

    def write(self, listener: Listener, deliveries: list[Delivery]) -> None:
        """Write events to a listener that is behind, in one piece, and move its positions."""
        plain = b"".join([d.plain for d in deliveries])
        wire = self._join_deflated(deliveries) if listener.deflate else plain
        for delivery in deliveries:
            event = delivery.event
            listener.subscriptions[event.group_id].position = event.seq
        listener.last_stamp_ms = deliveries[-1].event.stamp_ms
        self.deliveries += len(deliveries)
        self.bytes_plain += len(plain)
        self.bytes_out += len(wire)
        listener.send(wire)

    def send_ephemeral(
        self, group: LiveGroup, wire: bytes, *, stamp_ms: int, but: UserId | None = None, only: UserId | None = None
    ) -> None:
        """Write an ephemeral frame to the current listeners of a group: to all, all but one user's, or only one's."""
        self.flush()
        self._flushing = True
        try:
            for listener in group.current:
                if listener.user_id != but and (only is None or listener.user_id == only):
                    listener.last_stamp_ms = stamp_ms
                    listener.send(wire)
        finally:
            self._flushing = False
        self._mark_paused()
