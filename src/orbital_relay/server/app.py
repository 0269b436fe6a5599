"""The composition root: builds the server from its settings, opens its parts in order, closes them in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from orbital_relay import config
from orbital_relay.blobs import open_blobs
from orbital_relay.bus.local import LocalBus
from orbital_relay.config import Settings, SqliteFile
from orbital_relay.errors import OrbitalError
from orbital_relay.model import GroupId
from orbital_relay.ports import Blobs, Bus, Limiter
from orbital_relay.relay import Relay
from orbital_relay.server.adapters import open_cluster, open_store, open_tracing
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.logins import Logins
from orbital_relay.server.auth.passwords import Passwords
from orbital_relay.server.auth.tickets import Tickets
from orbital_relay.server.context import ServerContext
from orbital_relay.server.edge.deflate import deflated_text_frame
from orbital_relay.server.edge.socket_writer import SocketWriter
from orbital_relay.server.lifecycle import Lifecycle
from orbital_relay.server.limits.limiter import LocalLimiter
from orbital_relay.server.limits.memory import AnswerMemory
from orbital_relay.server.limits.policy import RequestLimits
from orbital_relay.server.ops import intervals
from orbital_relay.server.ops.clock import GuardedClock
from orbital_relay.server.ops.counters import ServerCounters
from orbital_relay.server.ops.disk import Disk
from orbital_relay.server.ops.metric_table import MetricSources
from orbital_relay.server.ops.metrics import Metrics
from orbital_relay.server.ops.periodic import cancel, repeat
from orbital_relay.server.ops.store_watch import StoreWatch
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.server.push.opening import Push, open_push
from orbital_relay.server.sessions.admission import Admission, HandshakeAdmission
from orbital_relay.server.sessions.client_session import ClientSession
from orbital_relay.server.sessions.last_seen import LastSeen
from orbital_relay.server.sessions.low_keys import LOW_KEYS_S, LowKeys
from orbital_relay.server.sessions.presence import ConnectedUser, LocalPresence, PresenceSource
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.server.sessions.typing import TypingNotifier
from orbital_relay.services import posting
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.erasure import ERASE_S, erase
from orbital_relay.services.keys import ANNOUNCE_S, LEFT_BEHIND_MS, KeysContext, announce
from orbital_relay.services.media_audit import check_blobs
from orbital_relay.services.media_cleanup import Collected, collect
from orbital_relay.services.media_context import MediaContext
from orbital_relay.services.pruning import prune
from orbital_relay.store.sql import SqlStore

if TYPE_CHECKING:
    from orbital_relay.bus.redis import RedisBus
    from orbital_relay.server.cluster.cluster import Cluster
    from orbital_relay.server.cluster.presence import SharedPresence

log = logging.getLogger("orbital.server")


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
        push: Push,
        cluster: Cluster | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        """
        Args:
            settings: All of them.
            store: The log.
            blobs: The media's bytes.
            clock: The time.
            push: Calls devices whose page is closed.
            cluster: What this server shares with others; None when it is the only one.
            siblings: The workers beside this one, if it is one of several.
        """
        self.settings = settings
        self.store = store
        self.clock = clock
        self.push = push
        self.lifecycle = Lifecycle()
        self.disk = Disk(settings.data_dir, reserve_bytes=settings.disk_reserve_bytes)
        self.writers: set[SocketWriter] = set()
        self.counters = ServerCounters()
        self.watch = StoreWatch(store, clock)
        self.revoked_elsewhere = asyncio.Event()
        # The database lost what was committed: a failover to a replica that lagged, or an old backup.
        self.went_back = asyncio.Event()
        limiter: Limiter = LocalLimiter(clock) if cluster is None else cluster.limiter
        tickets: Tickets | None = None if cluster is None else cluster.tickets
        self.auth = Auth.of(settings, store=store, clock=clock, tickets=tickets, notify=self._notify_revoked)
        self.logins = Logins(self.auth, store=store, clock=clock)
        self.admission = Admission(settings, limiter=limiter)
        self.passwords = Passwords()
        self.tracing = open_tracing(settings)
        self.relay = Relay(
            store=store,
            clock=clock,
            around_delivery=None if self.tracing is None else self.tracing.deliver,
            compress=deflated_text_frame,
            on_batch=self._batch,
            on_moved=self._moved,
            on_restored=self.went_back.set,
        )
        queue = self.relay.appender.append
        append = queue if self.tracing is None else self.tracing.append(queue)
        self.shared_bus: RedisBus | None = None
        self.shared_presence: SharedPresence | None = None
        self.presence: PresenceSource = LocalPresence(self.connected)
        self.bus: Bus = LocalBus()
        if cluster is not None:
            self.presence = self.shared_presence = cluster.make_presence(self.connected, lambda: self.relay.hub.groups)
            self.bus = self.shared_bus = cluster.make_bus(
                receive=self.relay.receive,
                on_reconnected=self._reconnected,
                on_revoked=self.revoked_elsewhere.set,
            )
        self.services = ServiceContext(
            store=store,
            append=append,
            clock=clock,
            passwords=self.passwords,
            logins=self.logins,
            online=self.presence.online,
            state_changed=self.relay.notify_state,
            envelope_bytes=settings.envelope_bytes,
            invite_days=settings.invite_days,
            most_groups=settings.user_groups,
            most_members=settings.group_members,
        )
        self.media = MediaContext(
            rows=store,
            blobs=blobs,
            append=append,
            clock=clock,
            limits=settings.media_limits,
            limiter=limiter,
            uploads_an_hour=settings.upload_limit,
            envelope_bytes=settings.envelope_bytes,
            keep_ms=int(settings.media_days * intervals.DAY_MS),
            abandon_ms=int(settings.media_abandon_hours * intervals.HOUR_MS),
            started_ms=clock.wall_ms(),
            # A bucket's clock is another one than ours.
            alone=isinstance(settings.database, SqliteFile) and settings.media_url is None,
        )
        self.low_keys = LowKeys(store=store, clock=clock)
        self.keys = KeysContext(store=store, append=append, clock=clock, limiter=limiter, changed=self.low_keys.due.set)
        self._swept_s = -intervals.SWEEP_S
        self.typing = TypingNotifier(relay=self.relay, store=store)
        self.sessions = Sessions(
            relay=self.relay,
            auth=self.auth,
            clock=clock,
            heartbeat_s=settings.heartbeat_s,
            frame_rate=settings.frame_rate,
            low_keys=self.low_keys,
        )
        self.last_seen = LastSeen(auth=self.auth, sessions=self.sessions.open, store=store, clock=clock)
        self.erase: Callable[[], Awaitable[None]] = partial(
            erase, store, append=append, clock=clock, keep_ms=int(settings.retention_days * intervals.DAY_MS)
        )
        self.handshakes = HandshakeAdmission(
            open_session=partial(
                ClientSession,
                relay=self.relay,
                clock=clock,
                auth=self.auth,
                typing=self.typing,
                enqueue=partial(posting.from_frame, self.services),
                registry=self.sessions,
                settings=settings,
            ),
            auth=self.auth,
            admission=self.admission,
            lifecycle=self.lifecycle,
            refusals=self.counters.refusals,
        )
        self.metrics = Metrics(
            MetricSources(
                relay=self.relay,
                sessions=self.sessions,
                media=self.media,
                clock=clock,
                bus=self.bus,
                database="sqlite" if isinstance(settings.database, SqliteFile) else "postgresql",
                lifecycle=self.lifecycle,
                counters=self.counters,
                pushed=push.results,
                disk=self.disk,
                watch=self.watch,
            ),
            siblings=siblings,
        )
        self.context = ServerContext(
            settings=settings,
            services=self.services,
            media=self.media,
            keys=self.keys,
            push=push.context,
            store=store,
            bus=self.bus,
            auth=self.auth,
            logins=self.logins,
            admission=self.admission,
            limits=RequestLimits(settings, limiter),
            memory=AnswerMemory(settings.answer_memory_bytes, clock=clock),
            metrics=self.metrics,
            counters=self.counters,
            clock=clock,
            lifecycle=self.lifecycle,
            disk=self.disk,
            tracing=self.tracing,
        )

    def connected(self, group_id: GroupId) -> Iterator[ConnectedUser]:
        """Yield the connections of this server that are subscribed to a group."""
        group = self.relay.hub.groups.get(group_id)
        if group is not None:
            for listener in (*group.current, *group.behind):
                if isinstance(listener, ClientSession):
                    username = listener.principal.username
                    yield ConnectedUser(listener.user_id, username, listener.connected_ms)

    async def _notify_revoked(self) -> None:
        # The bus is made after the authenticator.
        await self.bus.notify_revoked()

    def _batch(self, drafts: int, seconds: float) -> None:
        self.counters.batch(drafts, seconds)
        self.push.stored()

    def _moved(self, group_id: GroupId) -> None:
        if self.shared_presence is not None:
            self.shared_presence.moved(group_id)

    def _reconnected(self) -> None:
        """Find what was lost during the outage of Redis, and write presence again: Redis may have restarted empty."""
        self.relay.compare_soon()
        self.revoked_elsewhere.set()
        if self.shared_presence is not None:
            self.shared_presence.rewrite()

    async def start(self, opened: AsyncExitStack) -> None:
        """
        Start the bus, the relay and presence, in this order.

        Args:
            opened: Closes each of them.
        """
        if self.shared_bus is not None:
            opened.push_async_callback(self.shared_bus.close)
            await self.shared_bus.start()
        await self.relay.start(self.shared_bus)
        if self.shared_presence is not None:
            self.shared_presence.start()
            opened.push_async_callback(self.shared_presence.close)
        opened.push_async_callback(self.relay.close)

    # Chapter: work that comes round

    async def prune(self) -> None:
        """Delete what is past its retention."""
        keep_ms = int(self.settings.retention_days * intervals.DAY_MS)
        await prune(self.store, now_ms=self.clock.wall_ms(), keep_ms=keep_ms)

    async def announce_devices(self) -> None:
        """Emit the events of changed devices that a server left behind when it died."""
        await announce(self.keys, None, age_ms=LEFT_BEHIND_MS)

    async def collect_media(self) -> Collected:
        """Delete expired media; on the first call and then every hour also blobs without a row."""
        now_s = self.clock.steady_s()
        sweep = now_s - self._swept_s >= intervals.SWEEP_S
        if sweep:
            self._swept_s = now_s
        return await collect(self.media, sweep=sweep)

    async def forget(self) -> None:
        """Clear every cache of a database that went back to an older state: tokens, users, revocations."""
        await self.store.note_rewind(at_ms=self.clock.wall_ms())
        self.auth.forget()
        self.last_seen.forget()
        await self.auth.refresh()
        self.typing.forget()
        await self.sessions.recheck_users(self.store)

    async def after_rewinds(self) -> None:
        """
        Wait for the database to go back to an older state, and clear the caches of it; retry until it answers.

        Never returns.
        """
        while True:
            await self.went_back.wait()
            self.went_back.clear()
            try:
                await self.forget()
            except OrbitalError as exc:
                log.warning("the users could not be read yet", extra={"reason": exc.message})
                await asyncio.sleep(intervals.COMPARE_S)
                self.went_back.set()

    async def drain(self, *, patience_s: float) -> None:
        """
        Shut down gracefully: let pending posts finish, then close every connection with 1012; refuse new work.

        A post that is not finished in time is cancelled: its client gets no answer, and retries.

        Args:
            patience_s: Longest wait for posts and for the clients' Close together, beyond the pace of closing.
        """
        self.lifecycle.draining = True
        log.info("draining", extra={"connections": len(self.sessions.open)})
        await self.sessions.end_all(
            1012, "the server is restarting", pace=self.settings.close_pace, patience_s=patience_s * 0.75
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(min(intervals.CLOSE_WAIT_S, patience_s * 0.25)):
                while self.writers:  # noqa: ASYNC110 - the edge's registry is a plain set, and a stop comes once
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
        cluster = None
        if settings.redis_url is not None:
            cluster = open_cluster(settings.redis_url, clock=clock)
            opened.push_async_callback(cluster.close)
        push = await open_push(settings, store=store, clock=clock)
        opened.push_async_callback(push.close)
        node = Node(settings, store=store, blobs=blobs, clock=clock, push=push, cluster=cluster, siblings=siblings)
        opened.push_async_callback(node.auth.close)
        if node.tracing is not None:
            opened.push_async_callback(node.tracing.close)
        await node.start(opened)
        await node.auth.refresh()
        node.sessions.start()
        opened.callback(node.sessions.stop)
        opened.callback(node.low_keys.stop)
        one = isinstance(settings.database, SqliteFile)
        shared = [] if one else [("compare", node.relay.compare, intervals.COMPARE_S, None)]
        periodic = [
            asyncio.create_task(repeat(work, every_s, sooner=sooner), name=name)
            for name, work, every_s, sooner in (
                ("prune", node.prune, settings.prune_s, None),
                ("media", node.collect_media, settings.prune_s, None),
                ("erase", node.erase, min(ERASE_S, settings.prune_s), None),
                ("last seen", node.last_seen.write, settings.prune_s, None),
                ("devices", node.announce_devices, min(ANNOUNCE_S, settings.prune_s), None),
                ("low keys", node.low_keys.look, LOW_KEYS_S, node.low_keys.due),
                ("store watch", node.watch.look, min(intervals.WATCH_S, settings.prune_s), None),
                ("clock", node.clock.beat, min(intervals.CLOCK_BEAT_S, settings.prune_s), None),
                ("revocations", node.auth.refresh, intervals.REVOCATION_CHECK_S, node.revoked_elsewhere),
                *push.jobs,
                *shared,
            )
        ]
        periodic.append(asyncio.create_task(node.after_rewinds(), name="after rewinds"))
        opened.push_async_callback(cancel, periodic)
        if siblings is not None:
            await opened.enter_async_context(siblings.serve(node.metrics.snapshot))
        yield node
