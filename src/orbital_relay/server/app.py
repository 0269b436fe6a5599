"""The composition root: settings in, a running server out. Opens its parts in order, closes them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import math
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import uvicorn

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
from orbital_relay.server.edge.budget import ConnectionBudget, of_descriptors
from orbital_relay.server.edge.connection import SocketWriter
from orbital_relay.server.edge.deflate import deflated_text_frame
from orbital_relay.server.edge.http_protocol import http_protocol
from orbital_relay.server.edge.upgrade import websocket_protocol
from orbital_relay.server.http import build_app
from orbital_relay.server.limits.limiter import LocalLimiter, SharedLimiter
from orbital_relay.server.ops.clock import GuardedClock
from orbital_relay.server.ops.metrics import Metrics
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.server.sessions.admission import Admission, HandshakeAdmission
from orbital_relay.server.sessions.client_session import MAX_FRAME_BYTES, ClientSession
from orbital_relay.server.sessions.presence import Connected, LocalPresence, Presence
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.server.sessions.typing import Typing
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
        self.typing = Typing(relay=self.relay, store=store)
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
        await self.bus.tell_revoked()

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


class _Server(uvicorn.Server):
    """uvicorn, but for its signals: a stop drains first, and the process ends with status 0."""

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, and say so."""
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


async def serve(
    settings: Settings, *, on_started: Callable[[Node, str, int], None], siblings: Siblings | None = None
) -> None:
    """
    Serve until SIGTERM or SIGINT, then drain. A second signal ends it at once.

    Args:
        settings: All of them.
        on_started: Called when the port is open, with the address and the port.
        siblings: The workers beside this one, if it is one of several.

    Raises:
        SettingsInvalid: If a setting cannot be used, or the port is taken.
        DatabaseRefused: If the database cannot be opened.
    """
    listening = listen(settings)
    try:
        async with open_node(settings, siblings=siblings) as node:
            server = _Server(
                uvicorn.Config(
                    build_app(node),
                    http=http_protocol(_budget(settings)),
                    ws=websocket_protocol(
                        node.doorkeeper,
                        registry=node.lines,
                        max_message_bytes=MAX_FRAME_BYTES,
                        deflate=settings.deflate,
                    ),
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_keep_alive=65,
                    timeout_graceful_shutdown=max(1, round(settings.drain_s)),
                    backlog=4096,
                ),
                on_started=lambda: on_started(node, *listening[0].getsockname()[:2]),
            )
            with _signals(node, server):
                # What is alive now stays alive: the collector need not walk through it again and again.
                gc.collect()
                gc.freeze()
                # By default the collector walks through all connections again and again while their number grows: 0.3 s
                # each time with ten thousand of them, in which nobody is served. Connections leave no rings behind, so
                # young objects alone are looked through (some 10 ms), and all of them once in a long while.
                gc.set_threshold(10_000, 10, 1_000)
                await server.serve(sockets=listening)
    finally:
        for one in listening:
            one.close()


def _budget(settings: Settings) -> ConnectionBudget:
    def trusted(address: str) -> bool:
        try:
            place = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(place in network for network in settings.trusted_proxies)

    limit = 1024
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - POSIX

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return of_descriptors(limit, exempt=trusted)


def listen(settings: Settings) -> list[socket.socket]:
    """
    Bind the port at every address that the host has, as `localhost` has 127.0.0.1 and ::1; several workers share it.

    Raises:
        SettingsInvalid: If it is taken, or the machine has none of the addresses.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # 127.0.0.1 first: it is the address that is shown, and the one whose port the others take.
        places = sorted(dict.fromkeys((family, place) for family, _, _, _, place in found), key=lambda one: one[0])
        for family, place in places:
            try:
                made.append(_bind(settings, family, place, made))
            except OSError as exc:
                # A name may have an address of a family that this machine does not have, as ::1 in a container.
                if exc.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} or (place == places[-1][1] and not made):
                    raise
    except OSError as exc:
        for listening in made:
            listening.close()
        raise SettingsInvalid(
            f"Port {settings.port} of {settings.host} cannot be used: {exc.strerror}. "
            "Choose another with --port, or an address of this machine with --host."
        ) from exc
    return made


def _bind(settings: Settings, family: int, place: tuple[Any, ...], made: list[socket.socket]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.workers > 1:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if made and family == socket.AF_INET6:
            # IPv4 has a socket of its own here.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        port = made[0].getsockname()[1] if made else place[1]
        listening.bind((place[0], port, *place[2:]))
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _signals(node: Node, server: uvicorn.Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        # One deadline for all of it; a quarter of the time is left for the sockets.
        drain_s = node.settings.drain_s
        until_s = loop.time() + drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s * 0.75):
                node.draining = True
                # Requests that were under way have their answers before any socket is closed.
                while server.server_state.tasks:
                    await asyncio.wait(list(server.server_state.tasks))
        await node.drain(patience_s=max(0.0, until_s - loop.time()))
        # uvicorn waits on top for what is left; then it cancels.
        server.config.timeout_graceful_shutdown = max(1, math.floor(until_s - loop.time()))
        server.should_exit = True

    def on_signal() -> None:
        if stopping:
            server.should_exit = server.force_exit = True
            return
        stopping.append(loop.create_task(stop(), name="stop"))

    handlers: dict[signal.Signals, Callable[[], None]] = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = _note_hangup
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        if hasattr(signal, "SIGHUP"):
            # The parts are yet to be closed.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _note_hangup() -> None:
    # Left alone it would end the process without a drain; logrotate and a closed terminal send it.
    log.info("SIGHUP changes nothing: settings are read at the start; SIGTERM stops the server")
