"""The composition root: settings in, a server out. Opens its parts in order, closes them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

from orbital_relay import config
from orbital_relay.api.groups import Online
from orbital_relay.blobs import check_blobs, open_blobs
from orbital_relay.bus.local import LocalBus
from orbital_relay.config import Postgres, Settings, SqliteFile
from orbital_relay.errors import OrbitalError, SettingsInvalid
from orbital_relay.model import GroupId
from orbital_relay.ports import Blobs, Bus, Limiter
from orbital_relay.relay import Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.passwords import Passwords
from orbital_relay.server.auth.tickets import Tickets
from orbital_relay.server.edge.connection import SocketWriter
from orbital_relay.server.edge.deflate import deflated_text_frame
from orbital_relay.server.limits.limiter import LocalLimiter, SharedLimiter
from orbital_relay.server.ops.clock import GuardedClock
from orbital_relay.server.ops.metrics import Metrics
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.server.sessions.admission import Admission, HandshakeAdmission
from orbital_relay.server.sessions.client_session import ClientSession
from orbital_relay.server.sessions.presence import Connected, LocalPresence, Presence
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.server.sessions.typing import TypingNotifier
from orbital_relay.services import posting
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.media import Collected, MediaContext, collect
from orbital_relay.store.sql import SqlStore
from orbital_relay.store.sqlite import SqliteStore

log = logging.getLogger("orbital.server")

PRUNE_ROWS: Final = 1000
"""Rows that one transaction of the periodic clean-up takes away: a few milliseconds, in which no POST is stored."""

DAY_MS: Final = 24 * 3600 * 1000
HOUR_MS: Final = 3600 * 1000
SWEEP_S: Final = 3600.0
"""How often the media storage is looked through for bytes that no row names; only a crash leaves any."""
REVOCATION_CHECK_S: Final = 2.0
"""How often the store is asked for revocations made elsewhere, in case that no hint came: the bus may lose it."""
COMPARE_S: Final = 5.0
"""How often the heads of live groups are compared with the store's, when there are other servers."""
CLOCK_BEAT_S: Final = 60.0
"""How often the clock is looked at and its heartbeat written, or as often as the log is pruned if that is sooner."""
CLOSE_WAIT_S: Final = 2.0
"""How long a shutdown waits for clients to answer the close."""


class Node:
    """
    One server: its adapters, the relay, the use cases, the connections.

    It is made by `open_node` alone.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: SqlStore,
        blobs: Blobs,
        clock: GuardedClock,
        limiter: Limiter,
        tickets: Tickets | None = None,
    ) -> None:
        """
        Args:
            settings: All of them.
            store: The log.
            blobs: The media's bytes.
            clock: The time.
            limiter: Where attempts are counted.
            tickets: Where tickets wait; here when left out.
        """
        self.settings = settings
        self.store = store
        self.bus: Bus = LocalBus()
        self.on_moved: Callable[[GroupId], None] | None = None
        self.limiter = limiter
        self.clock = clock
        self.draining = False
        self.lines: set[SocketWriter] = set()
        self.refusals: Counter[str] = Counter()
        self.metrics = Metrics()
        self.revoked_elsewhere = asyncio.Event()
        # The database lost what was committed: a failover to a replica that lagged, or an old backup.
        self.went_back = asyncio.Event()
        self.auth = Auth.of(settings, store=store, clock=self.clock, tickets=tickets, notify=self._notify_revoked)
        self.admission = Admission(settings, limiter=limiter)
        self.passwords = Passwords()
        self.relay = Relay(
            store=store,
            clock=self.clock,
            compress=deflated_text_frame,
            on_batch=self.metrics.batch,
            on_moved=self._moved,
            on_restored=self.went_back.set,
        )
        self.presence: Presence = LocalPresence(self.connected)
        self.context = ServiceContext(
            store=store,
            append=self.relay.append,
            clock=self.clock,
            passwords=self.passwords,
            mint=self.auth.issue,
            online=self._online,
            envelope_bytes=settings.envelope_bytes,
            invite_days=settings.invite_days,
        )
        self.media = MediaContext(
            rows=store,
            blobs=blobs,
            append=self.relay.append,
            clock=self.clock,
            limits=settings.media_limits,
            envelope_bytes=settings.envelope_bytes,
            keep_ms=int(settings.media_days * DAY_MS),
            abandon_ms=int(settings.media_abandon_hours * HOUR_MS),
            started_ms=self.clock.wall_ms(),
            # A bucket's clock is another one than ours.
            alone=isinstance(settings.database, SqliteFile) and settings.media_url is None,
        )
        self._swept_s = -SWEEP_S
        self.typing = TypingNotifier(relay=self.relay, store=store)
        self.sessions = Sessions(
            relay=self.relay,
            auth=self.auth,
            clock=clock,
            heartbeat_s=settings.heartbeat_s,
            frame_rate=settings.frame_rate,
        )
        self.doorkeeper = HandshakeAdmission(
            open_session=partial(
                ClientSession,
                relay=self.relay,
                clock=clock,
                auth=self.auth,
                typing=self.typing,
                enqueue=partial(posting.from_frame, self.context),
                registry=self.sessions,
                settings=settings,
            ),
            auth=self.auth,
            admission=self.admission,
            draining=lambda: self.draining,
            refusals=self.refusals,
        )
        self.metrics.watch(self)

    async def _online(self, group_id: GroupId) -> list[Online]:
        # Looked up for each call: with Redis, the shared presence takes the place of the local one.
        return await self.presence.online(group_id)

    def connected(self, group_id: GroupId) -> Iterator[Connected]:
        """Tell which connections of this server hear a group."""
        group = self.relay.hub.groups.get(group_id)
        if group is not None:
            for listener in (*group.current, *group.behind):
                if isinstance(listener, ClientSession):
                    username = listener.principal.username
                    yield Connected(listener.user_id, username, listener.connected_ms)

    async def _notify_revoked(self) -> None:
        # The bus is known later than the node.
        await self.bus.notify_revoked()

    def _moved(self, group_id: GroupId) -> None:
        if self.on_moved is not None:
            self.on_moved(group_id)

    # Chapter: work that comes round

    async def prune(self) -> None:
        """Drop what is kept no longer, a little at a time."""
        now_ms = self.clock.wall_ms()
        before_ms = now_ms - int(self.settings.retention_days * DAY_MS)
        while await self.store.prune(before_ms=before_ms, limit=PRUNE_ROWS) >= PRUNE_ROWS:
            pass
        while await self.store.prune_keys(before_ms=now_ms - DAY_MS, limit=PRUNE_ROWS) >= PRUNE_ROWS:
            pass

    async def collect_media(self) -> Collected:
        """Take away media whose time is over; the first time and then every hour, bytes without a row, too."""
        now_s = self.clock.steady_s()
        sweep = now_s - self._swept_s >= SWEEP_S
        if sweep:
            self._swept_s = now_s
        return await collect(self.media, sweep=sweep)

    async def forget(self) -> None:
        """Trust nothing that was remembered of a database that went back: tokens, users, revocations."""
        await self.store.note_rewind(at_ms=self.clock.wall_ms())
        self.auth.forget()
        await self.auth.refresh()
        self.typing.forget()
        await self.sessions.recheck_users(self.store)

    async def after_rewinds(self) -> None:
        """
        Wait for the database to go back, and forget what was remembered of it; again until it answers.

        Never returns.
        """
        while True:
            await self.went_back.wait()
            self.went_back.clear()
            try:
                await self.forget()
            except OrbitalError as exc:
                log.warning("the users could not be looked up yet", extra={"reason": exc.message})
                await asyncio.sleep(COMPARE_S)
                self.went_back.set()

    async def periodically(
        self, work: Callable[[], object], every_s: float, *, sooner: asyncio.Event | None = None
    ) -> None:
        """
        Do a piece of work for ever; what fails, such as when the database is away, is done the next time.

        Args:
            work: What is done, one at a time.
            every_s: How often.
            sooner: Set by whoever wants it done now; set often meanwhile, it is done once more.
        """
        sooner = asyncio.Event() if sooner is None else sooner
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await sooner.wait()
            sooner.clear()
            try:
                result = work()
                if asyncio.iscoroutine(result):
                    await result
            except OrbitalError as exc:
                log.warning("periodic work was put off", extra={"reason": exc.message})
            except Exception:
                # A mistake of ours: without its next time nobody would learn of a revocation, say.
                log.exception("periodic work failed")

    async def drain(self, *, patience_s: float) -> None:
        """
        Let posts that are under way finish, then close every connection with 1012; take nothing new meanwhile.

        What is not done by then is cut short: its client has no answer, and asks again.

        Args:
            patience_s: Longest wait for posts and for the clients' own Close together, beyond the pace of closing.
        """
        self.draining = True
        log.info("draining", extra={"connections": len(self.sessions.open)})
        await self.sessions.end_all(
            1012, "the server is restarting", pace=self.settings.close_pace, patience_s=patience_s * 0.75
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(min(CLOSE_WAIT_S, patience_s * 0.25)):
                while self.lines:  # noqa: ASYNC110 - the edge's registry is a plain set, and a stop comes once
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def open_node(settings: Settings, *, siblings: Siblings | None = None) -> AsyncIterator[Node]:
    """
    Open a server's parts; they are closed, in reverse, when the block ends.

    Args:
        settings: All of them.
        siblings: The workers beside this one, if it is one of several.

    Raises:
        SettingsInvalid: If a setting cannot be used.
        DatabaseRefused: If the database cannot be opened.
    """
    async with AsyncExitStack() as opened:
        config.make_data_dir(settings)
        store = await open_store(settings)
        opened.push_async_callback(store.close)
        blobs = open_blobs(settings.media_url, folder=settings.data_dir / "media")
        opened.push_async_callback(blobs.close)
        await check_blobs(blobs)
        clock = await GuardedClock.open(store, hold_hours=settings.clock_hold_hours)
        if settings.redis_url is None:
            node = Node(settings, store=store, blobs=blobs, clock=clock, limiter=LocalLimiter(clock))
            opened.push_async_callback(node.auth.close)
            await node.relay.start()
        else:
            node = await _open_shared(settings, settings.redis_url, store, blobs, clock, opened)
        opened.push_async_callback(node.relay.close)
        await node.auth.refresh()
        node.sessions.start()
        opened.callback(node.sessions.stop)
        periodic = [
            asyncio.create_task(node.periodically(work, every_s, sooner=sooner), name=name)
            for name, work, every_s, sooner in (
                ("prune", node.prune, settings.prune_s, None),
                ("media", node.collect_media, settings.prune_s, None),
                ("clock", node.clock.beat, min(CLOCK_BEAT_S, settings.prune_s), None),
                ("revocations", node.auth.refresh, REVOCATION_CHECK_S, node.revoked_elsewhere),
                *(
                    []
                    if isinstance(settings.database, SqliteFile)
                    else [("compare", node.relay.compare, COMPARE_S, None)]
                ),
            )
        ]
        periodic.append(asyncio.create_task(node.after_rewinds(), name="after rewinds"))
        opened.push_async_callback(_cancel, periodic)
        if siblings is not None:
            node.metrics.siblings = siblings
            await opened.enter_async_context(siblings.told(node.metrics.snapshot))
        yield node


async def _open_shared(
    settings: Settings, redis_url: str, store: SqlStore, blobs: Blobs, clock: GuardedClock, opened: AsyncExitStack
) -> Node:
    """Make a server that shares a Redis with others; it starts without when Redis is away."""
    with extra("redis"):
        from orbital_relay.bus.redis import RedisBus  # noqa: PLC0415 - an extra
        from orbital_relay.server.cluster.redis_client import SharedPresence, SharedRedis, SharedTickets  # noqa: PLC0415 - the same

    shared = SharedRedis(redis_url)
    opened.push_async_callback(shared.close)
    limiter = SharedLimiter.of(redis_url, clock=clock, clustered=shared.clustered)
    opened.push_async_callback(limiter.close)
    tickets = SharedTickets(shared, clock)
    node = Node(settings, store=store, blobs=blobs, clock=clock, limiter=limiter, tickets=tickets)
    opened.push_async_callback(node.auth.close)
    presence = SharedPresence(shared, node.connected, lambda: node.relay.hub.groups)
    node.presence, node.on_moved = presence, presence.moved

    def back() -> None:
        # Find what was lost meanwhile, and say again who is here: it may have come back empty.
        node.relay.compare_soon()
        node.revoked_elsewhere.set()
        presence.rewrite()

    node.bus = bus = RedisBus(
        redis_url, receive=node.relay.receive, on_reconnected=back, on_revoked=node.revoked_elsewhere.set
    )
    opened.push_async_callback(bus.close)
    await bus.start()
    await node.relay.start(bus)
    presence.start()
    opened.push_async_callback(presence.close)
    return node


async def open_store(settings: Settings, *, alone: bool = True) -> SqlStore:
    """
    Open the database that the settings name, and bring it to this program's schema.

    Args:
        settings: Where it is.
        alone: Whether this is the server that appends to a file; a command beside it does not.

    Raises:
        DatabaseRefused: If it cannot be opened.
    """
    match settings.database:
        case SqliteFile(path=path):
            return await SqliteStore.open(path, alone=alone)
        case Postgres(dsn=dsn):
            with extra("postgres"):
                from orbital_relay.store.postgres import PostgresStore  # noqa: PLC0415 - an extra
            return await PostgresStore.open(dsn)


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Say how to install what an import needs when it is not there."""
    try:
        yield
    except ImportError as exc:
        raise SettingsInvalid(
            f"This needs a library that is not installed: pip install 'orbital-relay[{name}]'"
        ) from exc


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
