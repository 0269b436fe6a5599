"""Bounds, proxies, loops and threads: what is below the requests and around the client."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import subprocess
import sys
import time
import tracemalloc
import zlib
from typing import Any

import httpx
import pytest

from orbital_relay import wire
from orbital_relay.client import (
    Api,
    ApiError,
    BadAnswer,
    MemoryPositions,
    NotConnected,
    Position,
    Problem,
    State,
    StateChange,
    StoreDamaged,
    Unreachable,
    connect,
    http,
    network,
)
from orbital_relay.client.http import ANSWER_BYTES, error_of
from orbital_relay.client.tokens import renewal_moments_s
from tests.support.fake import GROUP, STAMP, FakeServer
from tests.support.programs import CHECKOUT
from tests.support.sdk import client, signals_of, when

# Chapter: answers without an end


def bomb(size: int) -> bytes:
    """Compress so many zeros."""
    packed = io.BytesIO()
    with gzip.open(packed, "wb") as file:
        for _ in range(size // 1_000_000):
            file.write(bytes(1_000_000))
    return packed.getvalue()


async def serving(answer: Any) -> Any:
    """Serve one answer over a real socket, whatever is asked."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    return await asyncio.start_server(talk, "127.0.0.1", 0)


@pytest.mark.parametrize("status", [200, 403, 503])
async def test_a_compression_bomb(status: int) -> None:
    """[PYBOUND1] A 0.2 MB compressed response that inflates to 200 MB uses memory up to the bound; an error less."""
    packed = bomb(200_000_000)
    assert len(packed) < 300_000

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)
        await writer.drain()

    async with await serving(answer) as server, Api(address(server), token="t") as api:
        tracemalloc.start()
        try:
            with pytest.raises(BadAnswer):
                await api.groups()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < (3 * ANSWER_BYTES if status == 200 else 4_000_000)


def address(server: asyncio.Server) -> str:
    """Return the address on which a server listens."""
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_a_body_without_an_end(encoding: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYBOUND2] Reading of an endless body stops at the bound."""
    monkeypatch.setattr(http, "ANSWER_BYTES", 1_000_000)
    inflate = zlib.compressobj(wbits=31)

    async def answer(writer: asyncio.StreamWriter) -> None:
        named = f"Content-Encoding: {encoding}\r\n" if encoding else ""
        writer.write(f"HTTP/1.1 200 OK\r\n{named}Connection: close\r\n\r\n".encode())
        while True:
            data = os.urandom(65_536)
            writer.write(inflate.compress(data) if encoding else data)
            await writer.drain()

    async with await serving(answer) as server, Api(address(server), token="t") as api:
        async with asyncio.timeout(60):
            with pytest.raises(BadAnswer, match="larger than 1,000,000 bytes"):
                await api.groups()


async def test_a_trickling_body_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYBOUND3] A server that trickles bytes does not extend the deadline of the request."""
    monkeypatch.setitem(Api._request.__kwdefaults__, "deadline_s", 0.3)

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with await serving(answer) as server, Api(address(server), token="t") as api:
        with pytest.raises(Unreachable, match=r"did not answer in 0.3 s"):
            await api.groups()


@pytest.mark.parametrize(
    "encoding, body",
    [("br", b"x"), ("gzip", b"no gzip"), ("gzip", gzip.compress(b'{"groups": []}')[:-9]), ("gzip, gzip", b"x")],
    ids=["br", "not gzip", "cut short", "twice"],
)
async def test_an_unknown_content_encoding(encoding: str, body: bytes) -> None:
    """[PYBOUND4] An unknown content encoding or a truncated gzip body raises BadAnswer; valid gzip is read."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def sound(writer: asyncio.StreamWriter) -> None:
        packed = gzip.compress(b'{"groups": []}')
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)
        await writer.drain()

    async with await serving(answer) as server, Api(address(server), token="t") as api:
        with pytest.raises(BadAnswer):
            await api.groups()
    async with await serving(sound) as server, Api(address(server), token="t") as api:
        assert await api.groups() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"message": "Forbidden"}',
        b'{"error": "forbidden", "message": "No."}',
        b'{"error": "Not Found", "message": "No message", "status": 404}',
        b'{"error": {"code": "FORBIDDEN"}, "message": "No."}',
        b'{"error": "FORBIDDEN"}',
        b'{"error": "FORBIDDEN", "message": ""}',
        b'["FORBIDDEN"]',
        b'{"error":' * 100_000,
    ],
)
def test_an_error_body_of_another_server(body: bytes) -> None:
    """[PYOURS1] Only an error body of Orbital's form is a refusal; any other response means an unreachable server."""
    error = error_of(403, {"Retry-After": "9"}, body)

    assert isinstance(error, BadAnswer)
    assert (error.status, error.retry_after_s) == (403, 9)
    ours = error_of(403, {}, b'{"error": "FORBIDDEN", "message": "No."}')
    assert isinstance(ours, ApiError)
    assert ours.code == "FORBIDDEN"


# Chapter: numbers


@pytest.mark.parametrize("since", [-1, 1.5, float("nan"), "7", True, 2**53, {}])
async def test_an_invalid_since(server: FakeServer, since: Any) -> None:
    """[PYPOS1] A `since` that is not an integer from 0 to 2^53 - 1 raises ValueError; the client stays usable."""
    async with client(server) as orbital:
        with pytest.raises(ValueError, match="whole number from 0 to"):
            orbital.subscribe(GROUP, since=since)
        await orbital.subscribe(GROUP, since=0).ready()


@pytest.mark.parametrize("stored", ["7", 7, {}, {"seq": 7}])
async def test_a_stored_position_is_invalid(server: FakeServer, stored: Any) -> None:
    """[PYPOS2] A store that returns something other than a Position ends the subscription with StoreDamaged."""

    class Odd(MemoryPositions):
        async def load(self, group_id: str) -> Position | None:
            return stored  # type: ignore[no-any-return]

    async with client(server, store=Odd()) as orbital:
        with pytest.raises(StoreDamaged, match="not a Position"):
            await anext(orbital.subscribe(GROUP))
        assert orbital.state.state is State.OPEN


# Chapter: tokens


def expiring(server: FakeServer, life_s: float) -> None:
    """Let the server say that tokens hold so long."""
    say = server._say

    async def expiring_say(socket: Any, type_: str, data: dict[str, Any], **more: Any) -> None:
        if type_ == "auth_success":
            data = {**data, "expires_at": wire.iso(STAMP + round(life_s * 1_000))}
        await say(socket, type_, data, **more)

    server._say = expiring_say  # type: ignore[method-assign]


async def test_a_token_is_renewed_in_time(server: FakeServer) -> None:
    """[PYRENEW1] The token function is called at three quarters of the token's life, and again before expiry."""
    expiring(server, 2)
    asked: list[float] = []
    begun = time.monotonic()

    def token() -> str:
        asked.append(time.monotonic() - begun)
        return "old" if len(asked) < 3 else "new"

    async with client(server, token=token):
        await server.until(lambda: server.received_of("authenticate") == [{"token": "new"}])

    assert len(asked) == 3
    # The moments that the client waits for are all before the end; a busy machine may wake it later.
    assert renewal_moments_s(2) == pytest.approx((1.5, 1.7, 1.84))
    assert 1.4 <= asked[1] < asked[2]
    assert server.handshakes == ["old"]


async def test_a_token_function_fails_at_expiry(server: FakeServer) -> None:
    """[PYRENEW2] A token function that raises when the token has just expired is retried; the client stays alive."""
    failures = [OSError("the identity provider is unreachable")] * 3
    valid = {"first"}
    server.good_token = lambda token: token in valid
    given = iter(("first",))

    def token() -> str:
        if (first := next(given, None)) is not None:
            return first
        if failures:
            raise failures.pop()
        return "second"

    async with client(server, token=token) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        problems = signals_of(orbital, Problem)
        valid.clear()
        valid.add("second")
        await server.end(1008, "The token has ended.")
        await server.until(lambda: server.handshakes == ["first", "second"])
        await server.append()
        async with asyncio.timeout(60):
            assert (await anext(subscription)).seq == 1

        assert "identity provider" in (await when(problems)).message
        assert failures == []


async def test_1008_before_auth_success(server: FakeServer) -> None:
    """[PYRENEW3] A close code before `auth_success` is not final: the client reconnects."""
    server.silent = True
    async with client(server, open_timeout_s=None) as orbital:
        await server.until(lambda: bool(server.sockets))
        await server.end(1008, "Go away.")
        await server.until(lambda: len(server.handshakes) == 2)
        server.silent = False
        server.cut()
        async with asyncio.timeout(60):
            await orbital.wait_open()


# Chapter: waiting


async def test_open_waits_for_the_attempt_limit(server: FakeServer) -> None:
    """[PYWAIT1] An open that has to wait reports it at once, and its timeout does not run meanwhile."""
    server.refusals = [(429, {"Retry-After": "1"}, {"error": "TOO_MANY_REQUESTS", "message": "Too many attempts."})]
    orbital = client(server, open_timeout_s=0.5)
    problems = signals_of(orbital, Problem)
    opening = asyncio.create_task(orbital.open())

    reported = await when(problems)
    assert not opening.done()
    assert reported.code == "TOO_MANY_REQUESTS"
    assert "Too many attempts. The next attempt is in 1 s." in reported.message
    async with asyncio.timeout(60):
        await opening
    assert orbital.state.state is State.OPEN
    await orbital.close()


async def test_a_proxys_retry_after_does_not_extend_the_timeout(server: FakeServer) -> None:
    """[PYWAIT2] A Retry-After from anything but the server does not extend the timeout."""
    server.refusals = [(429, {"Retry-After": "300"}, {"message": "slow down"})] * 9
    with pytest.raises(NotConnected, match="the response with status 429 is not from Orbital"):
        await client(server, open_timeout_s=0.3).open()


async def test_one_state_change_per_loss(server: FakeServer) -> None:
    """[PYWAIT3] A connection loss emits one StateChange with a reason, and the next StateChange is OPEN."""
    async with client(server) as orbital:
        states = signals_of(orbital, StateChange)
        for code, reason in ((1012, "Restarting."), (1001, "Going.")):
            await server.end(code, reason)
            lost, opened = await when(states), await when(states)
            assert (lost.state, lost.code, lost.reason) == (State.CONNECTING, code, reason)
            assert lost.retry_in_ms is not None
            assert opened == StateChange(state=State.OPEN)


# Chapter: proxies of the environment


ASK = """
import asyncio, sys
from orbital_relay.client import Api, ClientError, connect
try:
    Api(sys.argv[1])
    connect(sys.argv[1], token="t")
except ClientError as exc:
    print(exc)
else:
    print("ready")
"""


@pytest.mark.parametrize(
    "url, env, says",
    [
        ("http://localhost:1", {"ALL_PROXY": "socks5h://127.0.0.1:1"}, "ready"),
        ("http://[::1]:1", {"all_proxy": "socks5://127.0.0.1:1"}, "ready"),
        ("http://orbital.test", {"ALL_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": "orbital.test"}, "ready"),
        ("http://orbital.test", {"ALL_PROXY": "socks5://127.0.0.1:1"}, "asks for a SOCKS proxy"),
        ("https://orbital.test", {"HTTPS_PROXY": "gopher://127.0.0.1:1"}, "environment's proxy cannot be used"),
    ],
)
def test_an_unusable_proxy(url: str, env: dict[str, str], says: str) -> None:
    """[PYPROXY1] An unusable proxy is reported in a sentence; no proxy is used for loopback."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK, url],
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stderr == ""
    assert says in done.stdout


def test_an_unusable_proxy_on_the_command_line() -> None:
    """[PYPROXY2] `orbital send` reports the same proxy error in one line."""
    env = {
        **os.environ,
        "ALL_PROXY": "socks5://127.0.0.1:1",
        "ORBITAL_URL": "http://orbital.test",
        "ORBITAL_TOKEN": "t",
    }
    done = subprocess.run(
        [sys.executable, "-m", "orbital_relay", "send", GROUP], env=env, cwd=CHECKOUT, input=b"x", capture_output=True
    )

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"SOCKS" in done.stderr


def test_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYPROXY3] A hundred clients share one TLS context, and clients of http:// addresses load no certificates."""
    made: list[int] = []
    real = httpx.create_ssl_context

    def counting(*args: Any, **kwargs: Any) -> Any:
        made.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(network.httpx, "create_ssl_context", counting)
    network.tls_context.cache_clear()
    for _ in range(100):
        connect("http://127.0.0.1:1", token="t")
    assert made == []
    for _ in range(100):
        connect("https://orbital.test", token="t")
    assert made == [1]


# Chapter: loops and threads


async def test_a_call_from_another_event_loop(server: FakeServer) -> None:
    """[PYLOOP1] A call from another thread or loop raises at once; the client continues in its own."""
    async with client(server) as orbital:

        async def use() -> None:
            await orbital.send(GROUP, b"x")

        async def ask() -> None:
            await orbital.api.groups()

        for work in (use, ask, orbital.close):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await asyncio.to_thread(asyncio.run, work())
        for call in (lambda: orbital.subscribe(GROUP), orbital.wake, lambda: orbital.typing("t")):
            with pytest.raises(RuntimeError, match="where no event loop runs"):
                await asyncio.to_thread(call)

        assert (await orbital.send(GROUP, b"x")).seq == 1
        assert orbital.state.state is State.OPEN


async def test_open_and_close(server: FakeServer) -> None:
    """[PYLOOP2] `open` and `close` do what `async with` does."""
    orbital = client(server)
    assert await orbital.open() is orbital
    assert (await orbital.send(GROUP, b"x")).seq == 1
    await orbital.close()
    assert orbital.state.state is State.CLOSED


def test_marks_have_a_type() -> None:
    """[PYTYPE1] Everything that a subscription yields has a `type` and a `seq`, so that a log line can name it."""
    from orbital_relay.client import CaughtUp, Reset, ResetReason

    reset = Reset(group_id=GROUP, last_seq=1, seq=2, reason=ResetReason.GONE)
    assert (reset.type, reset.seq) == ("reset", 2)
    assert CaughtUp(group_id=GROUP, seq=2).type == "caught_up"
