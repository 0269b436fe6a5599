"""
The connection: dials, reads and writes the socket, and reconnects after a loss.

One task dials and reads; it never waits for the program.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from orbital_relay.client.api import Api
from orbital_relay.client.clocks import now_ms, tick_ms
from orbital_relay.client.errors import ApiError, Refused
from orbital_relay.client.events import Problem, State, StateChange
from orbital_relay.client.http import AWAITED_MOST_S, USER_AGENT, error_of
from orbital_relay.client.logs import websocket_log
from orbital_relay.client.network import is_direct, tls_context
from orbital_relay.client.protocol.conversation import ClientProtocol
from orbital_relay.client.protocol.effects import Opened, ProtocolEffect
from orbital_relay.client.protocol.reconnect import FINAL_STATUS, POLICY_VIOLATION, ReconnectPolicy, idle_limit_s
from orbital_relay.client.tokens import renewal_moments_s
from orbital_relay.core.backoff import Backoff

log = logging.getLogger("orbital.client")

HANDSHAKE_S: Final = 10.0
"""How long the handshake, and then the server's greeting, may take."""

CLOSE_S: Final = 2.0
"""How long to wait for the other side's Close frame (RFC 6455 §7.1.1) before the socket is dropped."""

PROBE_S: Final = 5.0
"""How long a connection that only looks open may take to answer after a wake."""

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""The largest frame taken: an envelope of 256 KiB makes 350 KB; a server with another limit may send more."""

OUTGOING_FRAMES: Final = 1_000
"""Frames that wait to be written. They are answers to pings and a few requests: a thousand means a dead line."""

FRAMES_A_TURN: Final = 100
"""Frames read before the other tasks get a turn: during a replay the next one is always there already."""


class _Dial(dial):
    """Follows no redirect: the REST side does not either, and a portal's page must not speak for the server."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Leave an answer that is not 101 as it is."""
        return exc


class _Lost(msgspec.Struct, frozen=True):
    """How a connection, or an attempt at one, ended."""

    opened: bool
    reason: str
    code: int | None = None
    retry_after_ms: int = 0
    asked_to_wait: str | None = None
    """The code of the server's own error, if that asked to wait."""
    final: Refused | None = None
    token_refused: bool = False
    """It is not final when there is another token."""


class _Renewal(Enum):
    """What the token function had, after a token was refused."""

    NEWER = "newer"
    NONE = "none"
    FAILED = "failed"


class ReconnectingConnection:
    """
    One connection after another, until the server refuses this client.

    Frames are passed to the conversation, and its effects to `apply`. A connection knows no groups.
    """

    def __init__(
        self,
        api: Api,
        conversation: ClientProtocol,
        *,
        backoff: Backoff,
        random: Callable[[], float],
        idle_slack_s: float,
        apply: Callable[[list[ProtocolEffect]], None],
        change: Callable[[StateChange], None],
        notify: Callable[[Problem], None],
        waits: Callable[[int], None],
    ) -> None:
        """
        Dial nothing yet.

        Args:
            api: Where the server is, and the tokens.
            conversation: Receives the frames.
            backoff: How long to wait between attempts.
            random: Gives a number in [0, 1).
            idle_slack_s: How late a heartbeat may be.
            apply: Carries out what the conversation decided.
            change: Receives the state.
            notify: Called with each problem.
            waits: Called with milliseconds when the server itself asks to wait that long.
        """
        self._api = api
        self._conversation = conversation
        self._line = ReconnectPolicy(backoff)
        self._random = random
        self._idle_slack_s = idle_slack_s
        self._apply = apply
        self._change = change
        self._notify = notify
        self._waits = waits
        self._keeper: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._outgoing: asyncio.Queue[str] | None = None
        self._drop_reason: str | None = None
        self._used_token: str | None = None
        self._heartbeat_s = 30.0
        self._woken = asyncio.Event()
        self.last_problem = ""
        """A sentence on why there is no connection, or was none before this one."""

    # Public

    async def stay(self) -> Refused:
        """Keep a connection until it is refused permanently; return the refusal."""
        delay_ms = self._line.wake(now_ms=tick_ms())
        while True:
            await self._wait(delay_ms)
            self._line.dialed(now_ms=tick_ms())
            lost = await self._connect()
            self.last_problem = lost.reason
            renewal = await self._renewed_after(lost) if lost.token_refused else _Renewal.NONE
            if lost.final is not None and renewal is _Renewal.NONE:
                log.warning("connection refused, not retried: %s", lost.reason)
                return lost.final
            # Another token is a reason to try at once, but not twice in a row.
            at_once = renewal is _Renewal.NEWER and self._line.failures == 0
            delay_ms = self._line.failed(
                now_ms=tick_ms(), random=self._random(), opened=lost.opened, retry_after_ms=lost.retry_after_ms
            )
            if at_once:
                self._line.failures = max(1, self._line.failures)
                delay_ms = self._line.wake(now_ms=tick_ms())
            if lost.asked_to_wait:
                self._waits(delay_ms)
                self._notify(
                    Problem(
                        code=lost.asked_to_wait,
                        message=f"{lost.reason} The next attempt is in {delay_ms / 1_000:.0f} s.",
                        details={"retry_in_ms": delay_ms, "status": lost.code},
                    )
                )
            log.info("connection lost: %s; next attempt in %d ms", lost.reason, delay_ms)
            if delay_ms or not (lost.token_refused and self._api.tokens.renewable):  # Reported before the renewal.
                self._change(
                    StateChange(state=State.CONNECTING, code=lost.code, reason=lost.reason, retry_in_ms=delay_ms)
                )

    def greeted(self, opened: Opened) -> None:
        """Note that the server has accepted us."""
        self._heartbeat_s = opened.heartbeat_s
        self._line.opened()
        self.keep_token(opened.token_life_s)

    def write(self, text: str) -> None:
        """Write a text frame soon; without a connection it is dropped."""
        if self._outgoing is None:
            return
        try:
            self._outgoing.put_nowait(text)
        except asyncio.QueueFull:
            self.drop(f"{OUTGOING_FRAMES} frames wait to be written: the connection does not carry them.")

    def drop(self, reason: str) -> None:
        """End the present connection; another one follows."""
        if self._socket is not None:
            self._drop_reason = reason
            self._socket.transport.abort()

    def wake(self) -> None:
        """Make a pending attempt at once, if five a minute allow it."""
        self._woken.set()

    def keep_token(self, life_s: float | None) -> None:
        """Renew the token before it ends, `life_s` seconds from now; without a token function there is no other."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        if life_s is not None and self._api.tokens.renewable:
            self._keeper = asyncio.get_running_loop().create_task(self._renew_in_time(life_s))

    async def probe(self) -> None:
        """See whether a connection that looks open is; one that is not is replaced."""
        if (socket := self._socket) is None:
            return
        try:
            async with asyncio.timeout(PROBE_S):
                await (await socket.ping())
        except TimeoutError:
            if socket is self._socket:
                self.drop("The connection did not answer after a wake.")
        except ConnectionClosed:
            pass

    async def renew(self) -> None:
        """Present a newer token before the present one ends, if the function has one."""
        if await self._renewed() is _Renewal.NEWER:
            self._used_token = await self._api.tokens.get()
            if self._used_token is not None:
                self._apply(self._conversation.authenticate(self._used_token, now_ms=now_ms()))

    # Private

    async def _wait(self, delay_ms: int) -> None:
        """Wait, or less when there is a reason to try at once."""
        end_ms = tick_ms() + delay_ms
        while (left_ms := end_ms - tick_ms()) > 0:
            try:
                async with asyncio.timeout(left_ms / 1_000):
                    await self._woken.wait()
            except TimeoutError:
                return
            self._woken.clear()
            end_ms = min(end_ms, tick_ms() + self._line.wake(now_ms=tick_ms()))
        self._woken.clear()

    async def _connect(self) -> _Lost:
        """Make one connection and use it until it ends."""
        try:
            self._used_token = await self._api.tokens.get()
        except Exception as exc:  # noqa: BLE001 - the token function is other people's code
            self._notify(Problem(code="TOKEN", message=f"The token function failed: {exc!r}"))
            return _Lost(opened=False, reason=f"The token function failed: {exc!r}")
        try:
            socket = await _Dial(
                self._api.address.websocket,
                additional_headers={"Authorization": f"Bearer {self._used_token}"},
                user_agent_header=USER_AGENT,
                open_timeout=HANDSHAKE_S,
                close_timeout=CLOSE_S,
                ping_interval=None,  # The server pings; its silence is noticed below.
                max_size=MAX_FRAME_BYTES,
                logger=websocket_log,
                proxy=None if is_direct(self._api.address) else True,
                ssl=tls_context() if self._api.address.secure else None,
            )
        except InvalidStatus as exc:
            return self._refused(exc)
        except (OSError, WebSocketException, EOFError, ImportError) as exc:  # ImportError: a SOCKS proxy's package.
            what = str(exc) or type(exc).__name__
            return _Lost(opened=False, reason=f"The server at {self._api.address.http} cannot be reached: {what}.")
        self._socket = socket
        self._outgoing = asyncio.Queue(OUTGOING_FRAMES)
        self._drop_reason = None
        writer = asyncio.get_running_loop().create_task(self._write(socket, self._outgoing))
        try:
            return await self._read(socket)
        finally:
            opened = self._conversation.is_open
            self.keep_token(None)
            self._socket = None
            self._outgoing = None
            self._conversation.lost()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            try:
                if opened and self._drop_reason is None:
                    await socket.close()
            finally:
                socket.transport.abort()

    def _refused(self, refusal: InvalidStatus) -> _Lost:
        """Read an answer to the handshake that is not 101."""
        status = refusal.response.status_code
        # websockets' own headers raise for a field that two proxies have written.
        headers = httpx.Headers(list(refusal.response.headers.raw_items()))
        error = error_of(status, headers, bytes(refusal.response.body or b""))
        retry_after_ms = round(min(error.retry_after_s or 0, AWAITED_MOST_S) * 1_000)
        if not isinstance(error, ApiError):
            # The response is not the server's: whatever the status says, the server is unreachable.
            return _Lost(opened=False, reason=str(error), code=status, retry_after_ms=retry_after_ms)
        return _Lost(
            opened=False,
            reason=error.message,
            code=status,
            retry_after_ms=retry_after_ms,
            asked_to_wait=error.code if retry_after_ms else None,
            final=Refused(error.message, status=status, code=error.code) if status in FINAL_STATUS else None,
            token_refused=status == 401,
        )

    async def _renewed_after(self, lost: _Lost) -> _Renewal:
        """Ask for another token after a refusal; the function may take its time."""
        if self._api.tokens.renewable:
            self._change(StateChange(state=State.CONNECTING, code=lost.code, reason=lost.reason))
        renewal = await self._renewed()
        if renewal is _Renewal.FAILED:
            self._api.tokens.discard(self._used_token)
        return renewal

    async def _renewed(self) -> _Renewal:
        """Ask for another token than the present one."""
        try:
            return _Renewal.NEWER if await self._api.tokens.renew(self._used_token) else _Renewal.NONE
        except Exception as exc:  # noqa: BLE001 - the token function is other people's code
            self._notify(Problem(code="TOKEN", message=f"The token function failed: {exc!r}"))
            return _Renewal.FAILED

    async def _renew_in_time(self, life_s: float) -> None:
        """Ask at three quarters of a token's life, and shortly before its end; `authenticated` begins the next life."""
        begun_ms = tick_ms()
        for at_s in renewal_moments_s(life_s):
            await asyncio.sleep(max(0.0, at_s - (tick_ms() - begun_ms) / 1_000))
            before = self._used_token
            await self.renew()
            if self._used_token != before:
                return

    async def _read(self, socket: ClientConnection) -> _Lost:
        """Receive frames until the connection ends."""
        turn = 0
        while True:
            is_open = self._conversation.is_open
            limit_s = idle_limit_s(self._heartbeat_s, self._idle_slack_s) if is_open else HANDSHAKE_S
            try:
                async with asyncio.timeout(limit_s):
                    message = await socket.recv()
            except TimeoutError:
                self._drop_reason = f"Nothing was received for {limit_s:g} s: the connection is dead."
                return _Lost(opened=is_open, reason=self._drop_reason)
            except ConnectionClosed as exc:
                return self._closed(exc)
            if isinstance(message, str):
                self._apply(self._conversation.received(message.encode(), now_ms=now_ms()))
            else:
                self._notify(Problem(code="BAD_FRAME", message="The server sent a binary frame."))
            turn += 1
            if turn % FRAMES_A_TURN == 0:
                await asyncio.sleep(0)

    def _closed(self, exc: ConnectionClosed) -> _Lost:
        """Read how a connection ended."""
        opened = self._conversation.is_open
        if self._drop_reason is not None:
            return _Lost(opened=opened, reason=self._drop_reason)
        if exc.rcvd is None:
            return _Lost(opened=opened, reason="The connection was lost.", code=1006)  # RFC 6455 §7.1.5
        code, reason = exc.rcvd.code, exc.rcvd.reason or f"The server closed the connection ({exc.rcvd.code})."
        if code != POLICY_VIOLATION or not opened:  # Before the greeting it is not known who closes.
            return _Lost(opened=opened, reason=reason, code=code)
        return _Lost(
            opened=opened, reason=reason, code=code, final=Refused(reason, close_code=code), token_refused=True
        )

    async def _write(self, socket: ClientConnection, outgoing: asyncio.Queue[str]) -> None:
        with suppress(ConnectionClosed):  # The reader reports how it ended.
            while True:
                await socket.send(await outgoing.get())
