"""The machinery that dials and reads, against a server that can do everything wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from typing import Any

import pytest

from orbital_relay.client import (
    Closed,
    NotConnected,
    Problem,
    Refused,
    State,
    StateChange,
    connect,
    connection,
)
from orbital_relay.client.protocol.reconnect import FINAL_STATUS
from orbital_relay.core.backoff import Backoff
from tests.support.fake import GROUP, OTHER, FakeServer, refusal
from tests.support.proxy import Proxy
from tests.support.sdk import FAST, client, read, signals_of, when

# Chapter: connecting


async def test_open_waits_for_auth_success(server: FakeServer) -> None:
    """[PYCON1] `async with` returns after `auth_success`; the token is sent in a header, not in the URL."""
    async with client(server, token="secret") as orbital:
        assert orbital.state == StateChange(state=State.OPEN)
        assert orbital.username == "anna"

    assert server.handshakes == ["secret"]
    assert orbital.state.state is State.CLOSED


@pytest.mark.parametrize("status", sorted(FINAL_STATUS))
async def test_a_permanently_refused_handshake(server: FakeServer, status: int) -> None:
    """[PYCON2] A handshake refused for a permanent reason is not retried, and raises the server's error."""
    server.refusals = [(status, {}, {"error": "FORBIDDEN", "message": "Not you."})]

    with pytest.raises(Refused, match="Not you") as caught:
        await client(server).__aenter__()

    assert (caught.value.status, caught.value.code) == (status, "FORBIDDEN")
    assert len(server.handshakes) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_temporarily_refused_handshake(server: FakeServer, status: int) -> None:
    """[PYCON3] A handshake that gets a 5xx is retried, whatever the response body is."""
    server.refusals = [(status, {}, {}), (status, {}, {"error": "UNAVAILABLE", "message": "Wait."})]

    async with client(server) as orbital:
        assert orbital.state.state is State.OPEN

    assert len(server.handshakes) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(server: FakeServer, status: int) -> None:
    """[PYCON10] Redirects are not followed; the error names the redirect's address, and the connection is retried."""
    async with FakeServer() as portal:
        elsewhere = portal.url.replace("http", "ws") + "/ws"
        server.refusals = [(status, {"Location": elsewhere}, {})]
        orbital = client(server)
        states = signals_of(orbital, StateChange)
        async with orbital:
            reported = await when(states, lambda change: change.code == status)

        assert reported.reason.endswith(
            f"the response with status {status} is not from Orbital; it points to {elsewhere}."
        )
        assert portal.handshakes == []
    assert len(server.handshakes) == 2


NONSENSE = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a portal's page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "an empty 200": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n<html>",
    "an invalid length": b"HTTP/1.1 503 Away\r\nContent-Length: some\r\n\r\n",
    "a header of 200 KB": b"HTTP/1.1 503 Away\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "a field of two proxies": b"HTTP/1.1 503 Away\r\nRetry-After: 0\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "no address": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "another's accept": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    "101 without a word more": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}
"""What may answer in a server's place."""


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_a_response_of_another_server(answer: bytes) -> None:
    """[PYCON12] A response from a server other than Orbital is reported in one sentence and retried."""
    dialed: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialed.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(ConnectionError):
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        orbital = connect(f"http://127.0.0.1:{port}", token="t", backoff=FAST, open_timeout_s=None)
        states = signals_of(orbital, StateChange)
        async with orbital:
            reported = await when(states, lambda change: change.retry_in_ms is not None)
            for _ in range(2):
                async with asyncio.timeout(60):
                    await dialed.get()

        assert reported.reason.startswith("The server")


async def test_retry_after_is_obeyed(server: FakeServer) -> None:
    """[PYCON4] Retry-After in a handshake response is obeyed and reported; `wake` still retries at once."""
    server.refusals = [(429, {"Retry-After": "200"}, {"error": "TOO_MANY_REQUESTS", "message": "Too many."})]
    orbital = client(server, open_timeout_s=None)
    states, problems = signals_of(orbital, StateChange), signals_of(orbital, Problem)

    async with orbital:
        refused = await when(states, lambda change: change.code == 429)
        problem = await when(problems)
        async with asyncio.timeout(60):  # and the loop is not kept busy meanwhile
            for _ in range(20):
                await asyncio.sleep(0)
        assert len(server.handshakes) == 1
        orbital.wake()
        async with asyncio.timeout(60):
            await orbital.wait_open()

        assert 200_000 <= refused.retry_in_ms <= 200_010
        assert problem.code == "TOO_MANY_REQUESTS"
        assert problem.message == "Too many. The next attempt is in 200 s."
    assert len(server.handshakes) == 2


async def test_no_server_answers() -> None:
    """[PYCON5] If no server answers, the first connection fails at its timeout, with the reason in a sentence."""
    async with await Proxy.open(1) as nobody:
        nobody.refuse()
        with pytest.raises(NotConnected, match=r"No connection to http://127.0.0.1:\d+ in 0.2 s: "):
            await connect(f"http://127.0.0.1:{nobody.port}", token="t", backoff=FAST, open_timeout_s=0.2).__aenter__()


async def test_no_auth_success(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYCON6] A connection without `auth_success` is aborted and opened again."""
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.2)
    server.silent = True

    async with client(server, open_timeout_s=None) as orbital:
        await server.until(lambda: len(server.handshakes) >= 2)
        server.silent = False
        await orbital.wait_open()


async def test_bad_addresses() -> None:
    """[PYCON7] An invalid address is rejected at once, in a sentence that omits what may be secret."""
    for url in ("localhost:3000", "ftp://x", "http://", "http://h:99999", "http://h/?token=secret", "http://u:p@h"):
        with pytest.raises(ValueError, match="address") as caught:
            connect(url, token="t")
        assert "secret" not in str(caught.value) or "99999" in url
    with pytest.raises(ValueError, match="2 events or more"):
        connect("http://h", token="t", buffer=1)


async def test_the_token_reaches_no_log(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """[PYCON8] Even with all logs on, no line has the token."""
    caplog.set_level(logging.DEBUG)

    tokens = iter(("the-very-secret-token", "the-next-secret-token"))

    async with client(server, token=lambda: next(tokens)) as orbital:
        await orbital.send(GROUP, b"x")
        await server.send(json.dumps({"type": "token_expiring", "data": {}, "server_timestamp": 1}))
        await server.until(lambda: len(server.received_of("authenticate")) == 1)

    ours = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert any("GET /ws" in line for line in ours)
    assert not [line for line in ours if "secret" in line]


async def test_an_internal_error_reaches_every_reader(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYCON9] An internal error of the client raises in every reader instead of blocking it."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()

        def broken(*_: Any, **__: Any) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(orbital._conversation, "received", broken)
        await server.append()

        with pytest.raises(KeyError, match="a bug"):
            await anext(subscription)
        assert orbital.state.state is State.CLOSED


# Chapter: tokens


async def test_a_refused_fixed_token_is_final(server: FakeServer) -> None:
    """[PYTOK1] After close code 1008 a client with a fixed token stays closed, and its streams raise the reason."""
    async with client(server) as orbital:
        states = signals_of(orbital, StateChange)
        subscription = orbital.subscribe(GROUP)
        await subscription.ready()

        await server.end(1008, "The token has ended.")

        with pytest.raises(Refused, match="The token has ended") as caught:
            await anext(subscription)
        assert caught.value.close_code == 1008
        closed = await when(states, lambda change: change.state is State.CLOSED)
        assert (closed.code, closed.retry_in_ms) == (1008, None)
        with pytest.raises(Refused):
            await orbital.wait_open()
        with pytest.raises(Refused):
            await orbital.subscribe(OTHER).ready()

    assert len(server.handshakes) == 1


async def test_the_token_function_is_called_after_a_refusal(server: FakeServer) -> None:
    """[PYTOK2] The token function is called again when its token is refused at the handshake, by 1008, or by REST."""
    numbers = itertools.count(1)
    valid = {"t2"}
    server.good_token = lambda token: token in valid

    async def token() -> str:
        return f"t{next(numbers)}"

    async with client(server, token=token) as orbital:
        assert server.handshakes == ["t1", "t2"]
        valid.clear()
        valid.add("t3")
        await server.end(1008, "The token has ended.")
        await server.until(lambda: len(server.sockets) == 1 and len(server.handshakes) == 3)
        await orbital.wait_open()
        valid.clear()
        valid.add("t4")

        await orbital.send(GROUP, b"x")

    assert server.handshakes == ["t1", "t2", "t3"]


async def test_the_same_token_again_is_final(server: FakeServer) -> None:
    """[PYTOK3] If the token function returns no newer token, the client ends as with a fixed token."""
    server.good_token = lambda _: False

    with pytest.raises(Refused, match="is invalid"):
        await client(server, token=lambda: "old").__aenter__()

    assert server.handshakes == ["old"]


async def test_a_token_is_renewed_on_token_expiring(server: FakeServer) -> None:
    """[PYTOK4] On `token_expiring` the client sends the function's newer token on the same connection."""
    tokens = iter(("first", "second"))

    async with client(server, token=lambda: next(tokens)):
        await server.send(json.dumps({"type": "token_expiring", "data": {"expires_at": ""}, "server_timestamp": 1}))
        await server.until(lambda: server.received_of("authenticate") == [{"token": "second"}])

    assert server.handshakes == ["first"]


async def test_a_token_function_that_fails(server: FakeServer) -> None:
    """[PYTOK5] An exception in the token function is reported and retried, like a failed connection."""
    answers: list[Any] = [OSError("the keyring is locked"), "", "good"]

    def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    orbital = client(server, token=token)
    problems = signals_of(orbital, Problem)
    async with orbital:
        first, second = await when(problems), await when(problems)

    assert "the keyring is locked" in first.message
    assert "empty token" in second.message
    assert server.handshakes == ["good"]


async def test_a_token_function_with_a_cancelled_task(server: FakeServer) -> None:
    """[PYTOK6] A token function that awaits a cancelled task of its own counts as failed, and is retried."""
    tries = itertools.count()

    async def token() -> str:
        if next(tries) == 0:
            gone = asyncio.create_task(asyncio.Event().wait())
            gone.cancel()
            await gone
        return "good"

    orbital = client(server, token=token)
    problems = signals_of(orbital, Problem)
    async with asyncio.timeout(60), orbital:
        assert "cancelled itself" in (await when(problems)).message

    assert server.handshakes == ["good"]


async def test_a_token_function_that_hangs(server: FakeServer) -> None:
    """[PYTOK7] While the client waits for the token function after 1008, its state is not open."""
    asked = asyncio.Event()
    first = ["t"]

    async def token() -> str:
        if not first:
            asked.set()
            await asyncio.Event().wait()
        return first.pop()

    async with client(server, token=token) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        await server.end(1008, "The token has ended.")
        await asked.wait()

        assert orbital.state.state is State.CONNECTING
        assert orbital.state.reason == "The token has ended."
        waiting = asyncio.create_task(orbital.wait_open())
        await asyncio.sleep(0)
        assert not waiting.done()

    with pytest.raises(Closed):
        await waiting


@pytest.mark.parametrize("mistake", ["secret\n", "two secrets", "sécret", "secret\r\nX-Evil: 1"])
async def test_an_invalid_token_is_rejected(server: FakeServer, mistake: str, caplog: pytest.LogCaptureFixture) -> None:
    """[PYTOK8] A token with characters that a header cannot hold is rejected at once; no error or log contains it."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match="no token has") as caught:
        client(server, token=mistake)
    assert "ecret" not in str(caught.value)

    tokens = [mistake, "good"]
    orbital = client(server, token=lambda: tokens.pop(0))
    problems = signals_of(orbital, Problem)
    async with orbital:
        assert "no token has" in (await when(problems)).message

    assert server.handshakes == ["good"]
    assert not [record for record in caplog.records if "ecret" in record.getMessage()]


# Chapter: lines


async def test_a_dead_connection_is_detected(server: FakeServer) -> None:
    """[LIN3] A connection without any frame for one heartbeat interval plus slack is replaced."""
    server.heartbeat_s = 0.2
    async with await Proxy.open(int(server.url.rsplit(":", 1)[1])) as proxy:
        orbital = connect(
            f"http://127.0.0.1:{proxy.port}", token="t", transport=server.transport, backoff=FAST, idle_slack_s=0.1
        )
        states = signals_of(orbital, StateChange)
        async with orbital:
            subscription = orbital.subscribe(GROUP, since=0)
            await subscription.ready()
            await proxy.set("down", swallow=True)
            await server.append()
            lost = await when(states, lambda change: "the connection is dead" in change.reason)
            await proxy.calm()

            assert lost.state is State.CONNECTING
            assert await read(subscription, 1) == [1]


async def test_wake_retries_at_once(server: FakeServer) -> None:
    """[LIN4] `wake` ends the back-off wait."""
    slow = Backoff(steps_ms=(600_000,), jitter_ms=1)
    async with client(server, backoff=slow) as orbital:
        states = signals_of(orbital, StateChange)
        server.cut()
        await when(states, lambda change: change.retry_in_ms is not None)

        orbital.wake()

        await when(states, lambda change: change.state is State.OPEN)


async def test_wake_replaces_an_unresponsive_connection(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[LIN5] After a wake, an open connection that does not answer is replaced without waiting for the watchdog."""
    monkeypatch.setattr(connection, "PROBE_S", 0.1)
    async with (
        await Proxy.open(int(server.url.rsplit(":", 1)[1])) as proxy,
        connect(f"http://127.0.0.1:{proxy.port}", token="t", transport=server.transport, backoff=FAST) as orbital,
    ):
        states = signals_of(orbital, StateChange)
        orbital.wake()  # answered: nothing happens
        await proxy.set("down", swallow=True)
        orbital.wake()
        await when(states, lambda change: "after a wake" in change.reason)
        await proxy.calm()
        await when(states, lambda change: change.state is State.OPEN)


async def test_close_during_back_off(server: FakeServer) -> None:
    """[LIN6] Closing during back-off ends it: no attempt follows, streams end, waiting posts fail."""
    slow = Backoff(steps_ms=(600_000,), jitter_ms=1)
    server.rest = lambda _: refusal(503, "UNAVAILABLE")
    orbital = client(server, backoff=slow)
    async with orbital:
        subscription = orbital.subscribe(GROUP)
        states = signals_of(orbital, StateChange)
        posting = asyncio.create_task(orbital.send(GROUP, b"x"))
        server.cut()
        await when(states, lambda change: change.retry_in_ms is not None)

    assert [item async for item in subscription] == []
    with pytest.raises(Closed):
        await posting
    with pytest.raises(Closed):
        await orbital.send(GROUP, b"x")
    with pytest.raises(Closed):
        orbital.subscribe(GROUP)
    with pytest.raises(Closed):
        await orbital.wait_open()
    await orbital.close()
    assert len(server.handshakes) == 1
