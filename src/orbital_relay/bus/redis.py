"""The bus on Redis Pub/Sub: one channel a group, followed only while somebody here listens; sharded on a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import ssl
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.crc import key_slot

from orbital_relay.model import GroupId
from orbital_relay.ports import Bus, BusReceiver

log = logging.getLogger("orbital.bus")

PREFIX: Final = b"orbital:group:"
"""What the name of a group's channel begins with."""

REVOKED: Final = b"orbital:revoked"
"""The channel that every server follows: somebody stored a revocation, and each looks into the database for it."""

NODE_BYTES: Final = 8
"""Bytes before each payload with the id of the sending server, so that a server discards its own messages."""

CONNECT_S: Final = 2.0
"""Longest wait for a connection, and for all answers that make it usable."""

FOLLOW_S: Final = 1.0
"""Longest wait for a channel to be confirmed. Past it the caller goes on: comparing heads finds what is lost."""

PING_S: Final = 2.0
"""How often Redis is pinged; a connection without an answer by the next ping is closed."""

RETRY_S: Final = (0.05, 1.0)
"""Waits between tries to connect: doubled from the first to the second, each drawn from half to the whole."""

WAITING_BYTES: Final = 4 * 1024 * 1024
"""Most bytes that wait for Redis to read them; one tick, which is a batch of the log at most, may add to that. Past it
messages are dropped, and the other servers read the log."""

CHANNELS_AT_ONCE: Final = 1000
"""Most channels of one SUBSCRIBE: 50 kB a command."""

_AWAY: Final = (OSError, hiredis.HiredisError, ValueError)
"""The errors of a Redis that is unreachable, refuses us or answers nonsense."""


class RedisBus:
    """
    A `ports.Bus` on Redis, which may be unreachable, restart empty, or be a Cluster.

    It never waits in `publish` and raises nothing there: a message that finds no room is dropped and counted. It says
    when it has come back, so that the relay compares where it stands with the log. Redis holds nothing of it.
    """

    def __init__(
        self,
        url: str,
        *,
        receive: BusReceiver,
        on_reconnected: Callable[[], None],
        on_revoked: Callable[[], None] = lambda: None,
        node_id: bytes | None = None,
    ) -> None:
        """
        Args:
            url: `redis://`, `rediss://` or `unix://`, with user and password if need be.
            receive: Gets what other servers published to groups that are followed.
            on_reconnected: Called on the loop when all followed groups are subscribed again after a break.
            on_revoked: Called on the loop when another server hints that it stored a revocation.
            node_id: `NODE_BYTES` of this server's own; drawn when left out.
        """
        self._address = _Address(url)
        self._receive = receive
        self._on_reconnected = on_reconnected
        self._on_revoked = on_revoked
        self._node_id = node_id or secrets.token_bytes(NODE_BYTES)
        self._followed: set[bytes] = set()
        self._session: _Session | None = None
        self._running: asyncio.Task[None] | None = None
        self.dropped = 0
        """Messages that were not sent, since Redis was unreachable or did not read."""
        self.received = 0
        """Messages that came from other servers."""

    async def start(self) -> None:
        """Connect; while Redis is unreachable, run without it and retry."""
        first = asyncio.Event()
        self._running = asyncio.create_task(self._run(first), name="bus")
        self._running.add_done_callback(_report)
        await first.wait()

    # Public: the port

    async def publish(self, group_id: GroupId, payload: bytes) -> None:
        """Send to every other server that follows the group; dropped when Redis is unreachable or does not keep up."""
        self._send(_channel(group_id), self._node_id + payload)

    async def follow(self, group_id: GroupId) -> None:
        """Subscribe to a group; returns when Redis has confirmed it, at once while Redis is unreachable."""
        channel = _channel(group_id)
        self._followed.add(channel)
        session = self._session
        if session is not None:
            # A Redis that does not answer is found out by its ping; nobody's subscription waits for that.
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(asyncio.shield(session.follow(channel)), FOLLOW_S)

    async def unfollow(self, group_id: GroupId) -> None:
        """Unsubscribe from a group."""
        channel = _channel(group_id)
        self._followed.discard(channel)
        if self._session is not None:
            self._session.unfollow(channel)

    async def notify_revoked(self) -> None:
        """Hint to all other servers at a revocation; dropped when Redis is unreachable or does not keep up."""
        self._send(REVOKED, self._node_id)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to Redis."""
        return self._session is not None

    async def close(self) -> None:
        """Close the connection."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _send(self, channel: bytes, message: bytes) -> None:
        session = self._session
        if session is None or not session.publish(channel, message):
            self.dropped += 1

    # Coming and going

    async def _run(self, first: asyncio.Event) -> None:
        low_s, high_s = RETRY_S
        wait_s, away = low_s, False
        while True:
            session = _Session(self._address, self._take)
            try:
                async with asyncio.timeout(CONNECT_S):
                    await session.open()
                    confirmed = session.follow_all({REVOKED, *self._followed})
                self._session = session
                await asyncio.wait_for(confirmed, CONNECT_S + len(self._followed) / 10_000)
                if away:
                    log.warning("redis is back", extra={"followed": len(self._followed)})
                if first.is_set():
                    self._on_reconnected()
                first.set()
                wait_s, away = low_s, False
                await session.live()
            except Exception as exc:
                # Whatever it is, the next try may go better; what no Redis does comes with its traceback.
                if not away:
                    away = True
                    known = isinstance(exc, _AWAY)
                    log.log(
                        logging.WARNING if known else logging.ERROR,
                        "redis cannot be reached",
                        extra={"address": self._address.shown, "error": _words(exc)},
                        exc_info=None if known else exc,
                    )
            finally:
                self._session = None
                session.close()
                first.set()
            await asyncio.sleep(random.uniform(wait_s / 2, wait_s))  # noqa: S311 - spreads servers, guards nothing
            wait_s = min(wait_s * 2, high_s)

    def _take(self, channel: bytes, message: bytes) -> None:
        if message[:NODE_BYTES] == self._node_id:
            return
        try:
            if channel == REVOKED:
                self._on_revoked()
            elif channel in self._followed:
                self.received += 1
                self._receive(GroupId(channel[len(PREFIX) :].decode("ascii", "replace")), message[NODE_BYTES:])
        except Exception:
            # A bug of ours: this message is lost, the others go on.
            log.exception("a bus message could not be delivered")


_: type[Bus] = RedisBus


async def tell_revoked_once(url: str) -> bool:
    """
    Do as `RedisBus.notify_revoked` for a program that is no server; return whether Redis took it, within `CONNECT_S`.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
    """
    session = _Session(_Address(url), lambda _channel, _message: None)
    try:
        async with asyncio.timeout(CONNECT_S):
            await session.open()
            await session.publish_surely(REVOKED, secrets.token_bytes(NODE_BYTES))
        return True
    except _AWAY:
        return False
    finally:
        session.close()


def _channel(group_id: GroupId) -> bytes:
    return PREFIX + group_id.encode()


def _words(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the bus failed", exc_info=error)


class _Address:
    """Where a Redis is and how to speak to it, read from a URL by the library's own reader."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = dict(parse_url(url))
        self.host: str = options.get("host") or "localhost"
        self.port: int = options.get("port") or 6379
        self.path: str | None = options.get("path")
        self.username: str | None = options.get("username")
        self.password: str | None = options.get("password")
        self._tls = _tls(options) if options.get("connection_class") is SSLConnection else None

    @property
    def shown(self) -> str:
        """Where it is, without the password."""
        return self.path or f"{self.host}:{self.port}"

    async def connect(self, link: _Link, host: str | None = None, port: int | None = None) -> None:
        """Connect a link, to this address or to another of the same cluster."""
        loop = asyncio.get_running_loop()
        if self.path is not None and host is None:
            await loop.create_unix_connection(lambda: link, self.path)
        else:
            host = host or self.host
            await loop.create_connection(lambda: link, host, port or self.port, ssl=self._tls)


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    """Make the TLS side of `rediss://` from the options that redis-py's URLs have."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_check_hostname") is False or options.get("ssl_cert_reqs") in {"none", "optional"}:
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    return context


class _Session:
    """
    One stretch of being connected: a link to a Redis, or one to each master of a Cluster.

    It ends as a whole at the first trouble with any of its links; the next one starts again.
    """

    def __init__(self, address: _Address, take: Callable[[bytes, bytes], None]) -> None:
        self._address = address
        self._take = take
        self._links: list[_Link] = []
        self._slots: list[_Link] = []
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken.add_done_callback(lambda future: future.cancelled() or future.exception())

    async def open(self) -> None:
        """Connect, and on a Cluster of Redis 7 or later to all its masters."""
        seed = await self._connect()
        about = await seed.hello(self._address)
        if about.get(b"mode") == b"cluster" and int(bytes(about.get(b"version", b"0")).split(b".")[0]) >= 7:
            await self._open_cluster(seed)

    async def _open_cluster(self, seed: _Link) -> None:
        ranges = await seed.ask(b"CLUSTER", b"SLOTS")
        masters: dict[tuple[str, int], _Link] = {}
        slots: list[_Link | None] = [None] * 16384
        for first, last, master, *_ in ranges:
            # A node that does not know its own name means the address that it was asked at.
            where = (bytes(master[0] or b"").decode() or self._address.host, int(master[1]))
            link = masters.get(where)
            if link is None:
                link = masters[where] = await self._connect(*where, sharded=True)
                await link.hello(self._address)
            slots[first : last + 1] = [link] * (last + 1 - first)
        if None in slots:
            raise ConnectionError("some slots of the Redis cluster have no server")
        self._links.remove(seed)
        seed.close()
        self._slots = [link for link in slots if link is not None]

    async def _connect(self, host: str | None = None, port: int | None = None, *, sharded: bool = False) -> _Link:
        link = _Link(self._take, self._lost, sharded=sharded)
        await self._address.connect(link, host, port)
        self._links.append(link)
        return link

    def _lost(self, link: _Link, error: Exception) -> None:
        if link in self._links and not self._broken.done():
            self._broken.set_exception(error)

    def _of(self, channel: bytes) -> _Link:
        return self._slots[key_slot(channel)] if self._slots else self._links[0]

    def publish(self, channel: bytes, message: bytes) -> bool:
        """Send; return whether there was room."""
        return self._of(channel).publish(channel, message)

    def publish_surely(self, channel: bytes, message: bytes) -> asyncio.Future[Any]:
        """Send; the future ends when Redis has taken it: answers come in the order of commands."""
        link = self._of(channel)
        link.publish(channel, message)
        return link.ask(b"PING")

    def follow(self, channel: bytes) -> asyncio.Future[None]:
        """Ask for a channel; the future ends when it is confirmed."""
        return self._of(channel).follow(channel)

    def follow_all(self, channels: Collection[bytes]) -> asyncio.Future[list[None]]:
        """Ask for channels; the future ends when all are confirmed."""
        return asyncio.gather(*(self.follow(channel) for channel in channels))

    def unfollow(self, channel: bytes) -> None:
        """Give a channel back."""
        self._of(channel).unfollow(channel)

    async def live(self) -> None:
        """
        Ask each link now and then whether it lives, until one does not.

        Raises:
            OSError: What ended the session.
        """
        while True:
            pings = [link.ask(b"PING") for link in self._links]
            done, _ = await asyncio.wait([self._broken], timeout=PING_S)
            if done:
                self._broken.result()
            for ping in pings:
                if not ping.done():
                    raise TimeoutError(f"no answer to PING in {PING_S:g} s")
                ping.result()

    def close(self) -> None:
        """End every link."""
        links, self._links = self._links, []
        for link in links:
            link.close()
        self._broken.cancel()


class _Link(asyncio.Protocol):
    """
    One connection to a Redis, spoken in RESP3: answers come in the order of commands, pushes whenever they like.

    What is written in one tick goes out in one piece.
    """

    def __init__(
        self,
        take: Callable[[bytes, bytes], None],
        lost: Callable[[_Link, Exception], None],
        *,
        sharded: bool = False,
    ) -> None:
        self._take = take
        self._lost = lost
        self._subscribe, self._unsubscribe, self._publish = (
            (b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH") if sharded else (b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH")
        )
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answers: deque[asyncio.Future[Any] | None] = deque()
        # Channels to ask for in this tick, each with those who wait for it; None for one to give back.
        self._asked: dict[bytes, list[asyncio.Future[None]] | None] = {}
        # Who waits for the next confirmations of a channel, in the order of the commands.
        self._confirming: dict[bytes, deque[list[asyncio.Future[None]]]] = {}
        self._leaving: Counter[bytes] = Counter()
        self._waiting: list[bytes] = []
        self._flush_due = False
        self._closed = False

    # What is sent

    async def hello(self, address: _Address) -> dict[bytes, Any]:
        """Choose RESP3, and say who we are; return what Redis says of itself."""
        command: list[bytes] = [b"HELLO", b"3"]
        if address.password is not None:
            command += [b"AUTH", (address.username or "default").encode(), address.password.encode()]
        answer: dict[bytes, Any] = await self.ask(*command, b"SETNAME", b"orbital-bus")
        return answer

    def ask(self, *command: bytes) -> asyncio.Future[Any]:
        """Send a command; the future ends with its answer."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        # The caller may have gone: retrieve the exception, or asyncio logs that it never was.
        answer.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._answers.append(answer)
        self._send(command)
        return answer

    def publish(self, channel: bytes, message: bytes) -> bool:
        """Send a message unless too much waits already."""
        transport = self._transport
        if transport is None or self._closed or transport.get_write_buffer_size() > WAITING_BYTES:
            return False
        self._answers.append(None)
        self._send((self._publish, channel, message))
        return True

    def follow(self, channel: bytes) -> asyncio.Future[None]:
        """Ask for a channel with all others of this tick."""
        confirmed: asyncio.Future[None] = self._loop.create_future()
        confirmed.add_done_callback(lambda future: future.cancelled() or future.exception())
        waiting = self._asked.get(channel)
        if waiting is None:
            waiting = self._asked[channel] = []
        waiting.append(confirmed)
        self._flush_soon()
        return confirmed

    def unfollow(self, channel: bytes) -> None:
        """Give a channel back with all others of this tick."""
        _confirm(self._asked.get(channel) or [])
        self._asked[channel] = None
        self._flush_soon()

    def _send(self, command: Iterable[bytes]) -> None:
        self._waiting.append(_pack(tuple(command)))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is None or self._closed:
            return
        asked, self._asked = self._asked, {}
        wanted = [channel for channel, waiting in asked.items() if waiting is not None]
        unwanted = [channel for channel, waiting in asked.items() if waiting is None]
        self._leaving.update(unwanted)
        for channel in wanted:
            self._confirming.setdefault(channel, deque()).append(asked[channel] or [])
        for name, channels in ((self._subscribe, wanted), (self._unsubscribe, unwanted)):
            for some in self._batches(channels):
                self._waiting.append(_pack((name, *some)))
        waiting, self._waiting = self._waiting, []
        self._transport.write(b"".join(waiting))

    def _batches(self, channels: list[bytes]) -> list[list[bytes]]:
        if self._subscribe == b"SSUBSCRIBE":
            # The channels of one SSUBSCRIBE have to share a slot.
            return [[channel] for channel in channels]
        return [channels[start : start + CHANNELS_AT_ONCE] for start in range(0, len(channels), CHANNELS_AT_ONCE)]

    # What comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no asyncio.Transport by name.
        self._transport = cast("asyncio.Transport", transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take answers and pushes apart."""
        try:
            self._reader.feed(data)
            while (message := self._reader.gets()) is not _NOTHING:
                if isinstance(message, hiredis.PushNotification):
                    self._pushed(message)
                else:
                    self._answered(message)
        except hiredis.ProtocolError as exc:
            self._end(ConnectionError(str(exc)))

    def _pushed(self, message: list[Any]) -> None:
        match message:
            case [b"message" | b"smessage", channel, payload]:
                self._take(channel, payload)
            case [b"subscribe" | b"ssubscribe", channel, *_]:
                self._confirmed(channel)
            case [b"unsubscribe" | b"sunsubscribe", channel, *_]:
                if self._leaving[channel] <= 0:
                    # Redis says so by itself when the channel's slot has moved to another master: connect again.
                    self._end(ConnectionError("a slot has moved"))
                elif self._leaving[channel] == 1:
                    del self._leaving[channel]
                else:
                    self._leaving[channel] -= 1
            case _:
                pass

    def _confirmed(self, channel: bytes) -> None:
        rounds = self._confirming.get(channel)
        if rounds:
            _confirm(rounds.popleft())
            if not rounds:
                del self._confirming[channel]

    def _answered(self, message: object) -> None:
        answer = self._answers.popleft() if self._answers else None
        if isinstance(message, hiredis.ReplyError):
            error = ConnectionError(str(message))
            if answer is not None and not answer.done():
                answer.set_exception(error)
            # A slot that moved, a Redis that loads or became a replica: connect again.
            self._end(error)
        elif answer is not None and not answer.done():
            answer.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify all waiters."""
        self._end(exc or ConnectionResetError("redis closed the connection"))

    def _end(self, error: Exception) -> None:
        if self._closed:
            return
        self.close()
        confirming = [one for rounds in self._confirming.values() for waiting in rounds for one in waiting]
        asked = [one for waiting in self._asked.values() for one in waiting or []]
        for future in (*self._answers, *confirming, *asked):
            if future is not None and not future.done():
                future.set_exception(error)
        self._lost(self, error)

    def close(self) -> None:
        """End the connection without another word."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()


_NOTHING: Final = object()
"""What the reader says when no whole message is there."""

# hiredis' types say "a tuple of one"; it takes any number.
_pack: Callable[[tuple[bytes, ...]], bytes] = cast("Any", hiredis.pack_command)


def _confirm(waiting: list[asyncio.Future[None]]) -> None:
    for confirmed in waiting:
        if not confirmed.done():
            confirmed.set_result(None)
