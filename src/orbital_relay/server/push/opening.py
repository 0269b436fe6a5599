"""Build the pusher, and the context of the subscriptions' use cases."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from orbital_relay.config import Settings, SqliteFile
from orbital_relay.errors import OrbitalError
from orbital_relay.ports import Clock, Store
from orbital_relay.server.push.pusher import LOOK_S, Pusher
from orbital_relay.server.push.sender import Sender
from orbital_relay.server.push.vapid import Vapid, new_private_key
from orbital_relay.services.push import PushContext

log = logging.getLogger("orbital.push")


class Push:
    """
    The push messages of one server.

    Attributes:
        results: Messages by result.
        context: What the use cases work with.
        pusher: Calls devices; None where push messages are switched off.
    """

    def __init__(self, settings: Settings, *, store: Store, clock: Clock, private_key: bytes | None) -> None:
        self.results: Counter[str] = Counter()
        self.pusher: Pusher | None = None
        public_key = None
        if private_key is not None:
            vapid = Vapid(private_key, contact=settings.contact, clock=clock)
            public_key = vapid.public_key
            self.pusher = Pusher(
                store=store,
                clock=clock,
                sender=Sender(vapid, clock=clock, networks=settings.push_networks),
                results=self.results,
                alone=isinstance(settings.database, SqliteFile),
            )
        self.context = PushContext(store=store, clock=clock, public_key=public_key, networks=settings.push_networks)

    @property
    def jobs(self) -> list[tuple[str, Callable[[], object], float, asyncio.Event | None]]:
        """The periodic job that looks for devices to call: name, work, seconds, what makes it run sooner."""
        return [] if self.pusher is None else [("push", self.pusher.look, LOOK_S, self.pusher.due)]

    async def close(self) -> None:
        """Cancel the calls in progress."""
        if self.pusher is not None:
            await self.pusher.close()

    def stored(self) -> None:
        """Note that events were stored."""
        if self.pusher is not None:
            self.pusher.stored()


async def open_push(settings: Settings, *, store: Store, clock: Clock) -> Push:
    """Read the key of this database, made on first use; without it, such as on a full disk, nobody is called."""
    private_key = None
    if settings.push:
        try:
            private_key = await store.vapid_key(new_private_key())
        except OrbitalError as exc:
            log.warning("no push messages are sent until the next start", extra={"reason": exc.message})
    return Push(settings, store=store, clock=clock, private_key=private_key)
