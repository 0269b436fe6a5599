"""The bus on Redis Pub/Sub: channels, reconnect with back-off; one channel a group while it has listeners here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable
from typing import Final

import hiredis

from orbital_relay.bus.redis_address import RedisAddress
from orbital_relay.bus.redis_session import RedisSession
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
"""Longest wait for a channel to be confirmed. Past it the caller continues: comparing heads finds what is lost."""

RETRY_S: Final = (0.05, 1.0)
"""Waits between tries to connect: doubled from the first to the second, each drawn from half to the whole."""

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
        self._address = RedisAddress(url)
        self._receive = receive
        self._on_reconnected = on_reconnected
        self._on_revoked = on_revoked
        self._node_id = node_id or secrets.token_bytes(NODE_BYTES)
        self._followed: set[bytes] = set()
        self._session: RedisSession | None = None
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
            # A Redis that does not answer is detected by its ping; no subscription waits for that.
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
            session = RedisSession(self._address, self._take)
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
            # An internal bug: this message is lost, the others continue.
            log.exception("a bus message could not be delivered")


_: type[Bus] = RedisBus


async def publish_revocation(url: str) -> bool:
    """
    Do as `RedisBus.notify_revoked` for a program that is no server; return whether Redis took it, within `CONNECT_S`.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
    """
    session = RedisSession(RedisAddress(url), lambda _channel, _message: None)
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
