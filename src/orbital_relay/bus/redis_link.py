"""One connection to Redis: commands, replies, and channel messages."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import hiredis

from orbital_relay.bus.redis_address import RedisAddress

WAITING_BYTES: Final = 4 * 1024 * 1024
"""Most bytes that wait for Redis to read them; one tick, which is a batch of the log at most, may add to that. Past it
messages are dropped, and the other servers read the log."""

CHANNELS_AT_ONCE: Final = 1000
"""Most channels of one SUBSCRIBE: 50 kB a command."""

# hiredis' types say "a tuple of one"; it takes any number.
_pack: Callable[[tuple[bytes, ...]], bytes] = cast("Any", hiredis.pack_command)


class RedisLink(asyncio.Protocol):
    """
    One connection to a Redis, spoken in RESP3: answers come in the order of commands, pushes whenever they like.

    What is written in one tick goes out in one piece.
    """

    def __init__(
        self,
        take: Callable[[bytes, bytes], None],
        lost: Callable[[RedisLink, Exception], None],
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

    async def hello(self, address: RedisAddress) -> dict[bytes, Any]:
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


def _confirm(waiting: list[asyncio.Future[None]]) -> None:
    for confirmed in waiting:
        if not confirmed.done():
            confirmed.set_result(None)
