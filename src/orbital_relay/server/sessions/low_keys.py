"""Low stock of one-time keys: when a device is notified (`keys_low`)."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from orbital_relay import wire
from orbital_relay.model import LowDevice, Principal
from orbital_relay.ports import Clock, Store

LOW_KEYS_S: Final = 5.0
"""How often stocks are looked for that claims at other servers left low."""
GATHER_S: Final = 0.25
"""How long new connections are gathered: when ten thousand come back, a look-up for each would slow them all down."""

LATE_MS: Final = 60_000
"""How late a claim of another server may become visible here: the clocks of two servers and a long transaction."""


class Reachable(Protocol):
    """What is needed of a session."""

    @property
    def principal(self) -> Principal:
        """The user of its token."""
        ...

    def say(self, data: wire.ServerData) -> None:
        """Enqueue a frame."""
        ...


class LowKeys:
    """
    Sends `keys_low` to a user's connections at this server: after `auth_success`, and when a claim left a stock low.

    Claims are found in the store, so one that another server answered is found, too. It never holds up a handshake.

    Attributes:
        due: Set when there is something to look up before the next round.
    """

    def __init__(self, *, store: Store, clock: Clock) -> None:
        """
        Args:
            store: The directory.
            clock: The time.
        """
        self.due = asyncio.Event()
        self._store = store
        self._clock = clock
        self._new: set[Reachable] = set()
        self._open: dict[int, set[Reachable]] = {}
        self._noticed: dict[tuple[int, int], int] = {}
        self._gathering: asyncio.TimerHandle | None = None

    def opened(self, session: Reachable) -> None:
        """Take up a session whose `auth_success` was sent."""
        self._open.setdefault(session.principal.key, set()).add(session)
        self._new.add(session)
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def closed(self, session: Reachable) -> None:
        """Forget a session."""
        self._new.discard(session)
        user = session.principal.key
        mine = self._open.get(user)
        if mine is not None:
            mine.discard(session)
            if not mine:
                del self._open[user]

    def _gathered(self) -> None:
        self._gathering = None
        self.due.set()

    def stop(self) -> None:
        """Look nothing up any more."""
        if self._gathering is not None:
            self._gathering.cancel()

    async def look(self) -> None:
        """
        Look up the devices with a low stock, and notify their users.

        Raises:
            Unavailable: If the database cannot be reached; the next round finds the same.
        """
        new, self._new = self._new, set()
        if not self._open:
            return
        since_ms = self._clock.wall_ms() - LATE_MS
        users = {session.principal.key for session in new}
        try:
            found = await self._store.low_devices(users=users, since_ms=since_ms)
        except BaseException:
            self._new |= new
            raise
        self._noticed = {device: at_ms for device, at_ms in self._noticed.items() if at_ms > since_ms}
        for low in found:
            self._notify(low, new)

    def _notify(self, low: LowDevice, new: set[Reachable]) -> None:
        device = low.user, low.device_id
        sessions = self._open.get(low.user, set())
        if low.since_ms <= self._noticed.get(device, 0):
            sessions = sessions & new
        else:
            self._noticed[device] = low.since_ms
        stock = low.stock
        frame = wire.KeysLow(low.device_id, stock.pre_keys, stock.kyber_pre_keys, stock.hpke_pre_keys)
        for session in sessions:
            session.say(frame)
