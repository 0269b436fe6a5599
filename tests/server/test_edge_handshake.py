"""The handshake: what is refused, how, in which order, and what admission receives."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orbital_relay.errors import TooManyRequests
from orbital_relay.server.edge import upgrade
from orbital_relay.server.edge.handshake import Admit, Handshake, Headers, refusal
from orbital_relay.server.edge.socket_writer import SocketWriter
from tests.support.edge import DEADLINE_S, Client, EchoAdmission, EchoPeer, Edge, masked, running_edge

KEY = f"Sec-WebSocket-Key: {Client.KEY}\r\n"
VERSION = "Sec-WebSocket-Version: 13\r\n"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest) -> Iterator[Edge]:
    """An edge on each loop."""
    with running_edge(loop=request.param) as edge:
        yield edge


@pytest.fixture
def edge(running: Edge) -> Edge:
    """An edge that remembers nothing of the test before."""
    running.admission.forget()
    return running


def assert_refused(client: Client, status: int, error: str) -> dict[str, str]:
    """The answer is a refusal with this code in its JSON body, and the connection ends; returns its headers."""
    said, headers, body = client.answer()
    assert said == status
    assert headers["content-type"] == "application/json"
    assert "close" in headers["connection"]
    assert "date" in headers
    answer = msgspec.json.decode(body)
    assert answer["error"] == error
    assert set(answer) == {"error", "message", "details"}
    client.receive_end()
    return headers


async def never() -> Admit:
    """Decide when all else is over."""
    return await asyncio.get_running_loop().create_future()


# Refusals by the edge itself


def test_another_path(edge: Edge):
    """[WS20] An unknown path is refused first, before the upgrade is examined."""
    with edge.connect() as client:
        client.ask(UPGRADE, target="/wss")
        assert_refused(client, 404, "NOT_FOUND")

    assert edge.admission.asked == []


@pytest.mark.parametrize("headers", ["", "Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 13\r\n" * 2])
def test_another_version(edge: Edge, headers: str):
    """[WS21] A version other than 13 is 426, and the response names 13 (RFC 6455 §4.4)."""
    with edge.connect() as client:
        client.ask(UPGRADE + KEY + headers)
        answer = assert_refused(client, 426, "UPGRADE_REQUIRED")

    assert answer["sec-websocket-version"] == "13"
    assert answer["upgrade"] == "websocket"
    assert answer["connection"] == "close, upgrade"
    assert edge.admission.asked == []


@pytest.mark.parametrize("key", ["", "short", "!" * 24, "AAAAAAAAAAAAAAAAAAAAAAA=", "é" * 24])
def test_bad_keys(edge: Edge, key: str):
    """[WS22] A key that is not 16 bytes in base64 is 400."""
    with edge.connect() as client:
        client.ask(UPGRADE + VERSION + (f"Sec-WebSocket-Key: {key}\r\n" if key else ""))
        assert_refused(client, 400, "VALIDATION_ERROR")


def test_two_keys(edge: Edge):
    """[WS22] A repeated key header is refused (RFC 6455 §11.3.1)."""
    with edge.connect() as client:
        client.ask(UPGRADE + VERSION + KEY + KEY)
        assert_refused(client, 400, "VALIDATION_ERROR")


def test_malformed_extensions(edge: Edge):
    """[WS22] Malformed extension headers fail the handshake (RFC 6455 §9.1)."""
    with edge.connect() as client:
        client.ask_upgrade("Sec-WebSocket-Extensions: permessage-deflate; =\r\n")
        assert_refused(client, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
def test_another_method(edge: Edge, method: str):
    """[WS23] A WebSocket is opened with GET; anything else is 405."""
    with edge.connect() as client:
        client.ask_upgrade(method=method)
        if method == "HEAD":
            client.socket.shutdown(1)
            assert client.take(13) == b"HTTP/1.1 405 "
            return
        assert assert_refused(client, 405, "METHOD_NOT_ALLOWED")["allow"] == "GET"


# Accepted handshakes


@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade,keep-alive"])
def test_connection_headers(edge: Edge, connection: str):
    """[WS24] `Connection` is a list: Firefox's header is accepted like Chromium's."""
    with edge.connect() as client:
        client.ask(f"upgrade: WebSocket\r\nConnection: {connection}\r\n" + VERSION + KEY)
        assert client.answer()[0] == 101
        client.frame(0x81, b"x")
        assert client.receive().payload == b"x"


def test_a_handshake_with_a_body_is_plain_http(edge: Edge):
    """[WS24] A handshake with a body is plain HTTP: the body is read, and never parsed as frames or as a request."""
    with edge.connect() as client:
        client.ask_upgrade("Content-Length: 5\r\n", body=b"\x81\x80abc")
        assert client.answer()[0] == 426
        client.upgrade()
        client.frame(0x81, b"x")
        assert client.receive().payload == b"x"


def test_after_another_request(edge: Edge):
    """[WS24] A connection that carried a plain request may be upgraded."""
    with edge.connect() as client:
        client.ask(target="/health")
        assert client.answer()[0] == 426
        client.upgrade()
        client.frame(0x81, b"x")
        assert client.receive().payload == b"x"


def test_what_admission_receives(edge: Edge):
    """[WS25] Admission receives method, path, query, headers and address, decoded."""
    with edge.connect() as client:
        client.ask_upgrade(
            "X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\nOrigin:  https://a.example \r\n",
            target="/%77s?token=a%20b&token=c&empty=&ticket=%C3%BC",
        )
        assert client.answer()[0] == 101
        (asked,) = edge.admission.asked

        assert (asked.method, asked.path) == ("GET", "/ws")
        assert asked.query == {"token": "a b", "empty": "", "ticket": "ü"}
        assert asked.headers["X-Forwarded-For"] == "192.0.2.1, 192.0.2.2"
        assert asked.headers.get("ORIGIN") == "https://a.example"
        assert "authorization" not in asked.headers
        assert "host" in set(asked.headers)
        assert asked.peer == client.socket.getsockname()


def test_absolute_form(edge: Edge):
    """[WS25] A target in absolute form yields the same path (RFC 9112 §3.2.2)."""
    with edge.connect() as client:
        client.ask_upgrade(target="http://edge:80/ws?token=t")
        assert client.answer()[0] == 101

    assert edge.admission.asked[0].query == {"token": "t"}


def test_a_logged_handshake_contains_no_token():
    """[WS26] A logged handshake never contains its token."""
    handshake = Handshake(
        "GET", "/ws", {"token": "SECRET"}, Headers({"authorization": "Bearer SECRET"}), ("192.0.2.1", 1)
    )

    assert "SECRET" not in repr(handshake) + repr(handshake.headers) + str(handshake)
    assert len(handshake.headers) == 1


def test_subprotocol(edge: Edge):
    """[WS27] The response has the subprotocol that admission selected, and none if it selected none."""
    edge.admission.decision = lambda _: edge.admission.admit("orbital.v1")
    with edge.connect() as client:
        assert (
            client.upgrade("Sec-WebSocket-Protocol: orbital.v1, bearer.x\r\n")["sec-websocket-protocol"] == "orbital.v1"
        )
    edge.admission.decision = None
    with edge.connect() as client:
        assert "sec-websocket-protocol" not in client.upgrade("Sec-WebSocket-Protocol: orbital.v1\r\n")


def test_a_response_that_cannot_be_written(edge: Edge, caplog: pytest.LogCaptureFixture):
    """[WS29] An exception after the decision ends the connection, is logged, and leaks nothing."""
    edge.admission.decision = lambda _: edge.admission.admit("ünfit for a header")
    with edge.connect() as client:
        client.ask_upgrade()
        client.receive_end()

    assert "UnicodeEncodeError" in caplog.text
    assert edge.call(lambda: set(edge.registry) | edge.server.server_state.connections) == set()


@pytest.mark.parametrize("target", ["http://[edge/ws", "http://edge"])
def test_targets_without_a_path(edge: Edge, target: str):
    """[WS25] A target that cannot be parsed, or has no path, is refused."""
    with edge.connect() as client:
        client.ask_upgrade(target=target)
        assert client.answer()[0] in {400, 404}


# Admission's decision


def test_refusal(edge: Edge):
    """[WS28] A refusal by admission is sent unchanged, as plain HTTP."""
    edge.admission.decision = lambda _: refusal(TooManyRequests("Slowly.", retry_after_s=7))
    with edge.connect() as client:
        client.ask_upgrade()
        assert assert_refused(client, 429, "TOO_MANY_REQUESTS")["retry-after"] == "7"


def test_an_awaited_decision(edge: Edge):
    """[WS28] Admission may take time; what the client sends meanwhile is buffered."""
    asked, go = threading.Event(), asyncio.Event()

    async def decide() -> Admit:
        asked.set()
        await go.wait()
        return edge.admission.admit()

    edge.admission.decision = lambda _: decide()
    with edge.connect() as client:
        client.ask_upgrade()
        assert asked.wait(DEADLINE_S)
        wire = b"".join(masked(0x81, b"%d" % n * 100) for n in range(100))
        client.send(wire)
        edge.loop.call_soon_threadsafe(go.set)

        assert client.answer()[0] == 101
        assert [client.receive().payload for _ in range(100)] == [b"%d" % n * 100 for n in range(100)]


def test_what_is_sent_during_a_decision_is_bounded(edge: Edge):
    """[WS28] A client that floods before it is accepted gets back-pressure from TCP and loses nothing."""
    asked, go = threading.Event(), asyncio.Event()

    async def decide() -> Admit:
        asked.set()
        await go.wait()
        return edge.admission.admit()

    edge.admission.decision = lambda _: decide()
    messages = 400
    with edge.connect() as client:
        client.ask_upgrade()
        assert asked.wait(DEADLINE_S)
        flood = threading.Thread(target=client.send, args=(masked(0x81, b"x" * 50_000) * messages,))
        flood.start()
        flood.join(0.3)
        assert flood.is_alive(), "20 MB went somewhere"
        edge.loop.call_soon_threadsafe(go.set)

        assert client.answer()[0] == 101
        assert [len(client.receive().payload) for _ in range(messages)] == [50_000] * messages
        flood.join()


def test_a_client_that_leaves_during_the_decision(edge: Edge):
    """[WS29] The decision is cancelled when the client disconnects, and no peer is opened."""
    asked, cancelled = threading.Event(), threading.Event()

    async def decide() -> Admit:
        asked.set()
        try:
            return await never()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    edge.admission.decision = lambda _: decide()
    with edge.connect() as client:
        client.ask_upgrade()
        assert asked.wait(DEADLINE_S)

    assert cancelled.wait(DEADLINE_S)
    assert edge.admission.peers.empty()


def test_a_decision_that_takes_too_long(edge: Edge, monkeypatch: pytest.MonkeyPatch):
    """[WS29] Admission has a deadline; after it the response is 503."""
    monkeypatch.setattr(upgrade, "DECISION_S", 0.05)
    edge.admission.decision = lambda _: never()
    with edge.connect() as client:
        client.ask_upgrade()
        assert "retry-after" in assert_refused(client, 503, "UNAVAILABLE")


@pytest.mark.parametrize("awaited", [False, True])
def test_an_admission_that_fails(edge: Edge, awaited: bool, caplog: pytest.LogCaptureFixture):
    """[WS29] An exception in admission is a 500 without details, and is logged."""

    async def later() -> Admit:
        raise RuntimeError("the cellar is flooded")

    def at_once(_: Handshake) -> Admit:
        raise RuntimeError("the cellar is flooded")

    edge.admission.decision = (lambda _: later()) if awaited else at_once
    with edge.connect() as client:
        client.ask_upgrade()
        status, _, body = client.answer()

    assert status == 500
    assert b"cellar" not in body
    assert "the cellar is flooded" in caplog.text


def test_admission_may_raise_a_known_error(edge: Edge):
    """[WS28] A known error that admission raises determines the response, whether awaited or not."""

    async def later() -> Admit:
        raise TooManyRequests("Slowly.", retry_after_s=9)

    edge.admission.decision = lambda _: later()
    with edge.connect() as client:
        client.ask_upgrade()
        assert assert_refused(client, 429, "TOO_MANY_REQUESTS")["retry-after"] == "9"


def test_a_stop_during_the_decision():
    """[WS30] A handshake that is undecided when the server stops is refused with 503."""
    asked = threading.Event()

    async def decide() -> Admit:
        asked.set()
        return await never()

    with running_edge() as edge, edge.connect() as client:
        edge.admission.decision = lambda _: decide()
        client.ask_upgrade()
        assert asked.wait(DEADLINE_S)
        edge.server.should_exit = True

        assert "retry-after" in assert_refused(client, 503, "UNAVAILABLE")


def test_the_first_frame_follows_the_101():
    """[WS31] The peer's first frame needs no round trip: it follows the 101 directly."""

    class Greeter(EchoPeer):
        def opened(self, line: SocketWriter) -> None:
            super().opened(line)
            self.text(b"welcome")

    with running_edge(EchoAdmission(Greeter)) as edge, edge.client() as client:
        assert client.receive() == (0x81, b"welcome")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_first_frame_is_in_the_packet_of_the_101(loop):
    """[PACKET1] The 101 and what the peer writes at once are one packet; one that raises is answered 101, then 1011."""

    class Greeter(EchoPeer):
        def opened(self, line: SocketWriter) -> None:
            super().opened(line)
            self.text(b"one")
            self.text(b"two")

    class Broken(EchoPeer):
        def opened(self, line: SocketWriter) -> None:
            super().opened(line)
            raise RuntimeError

    with running_edge(EchoAdmission(Greeter), loop=loop) as edge:
        for _ in range(20):
            with edge.connect() as client:
                client.ask_upgrade()
                packet = client.socket.recv(65536)
                assert packet.startswith(b"HTTP/1.1 101")
                assert packet.endswith(b"\r\n\r\n\x81\x03one\x81\x03two")
    with running_edge(EchoAdmission(Broken), loop=loop) as edge, edge.client() as client:
        assert client.receive_close()[0] == 1011


def test_an_unbounded_socket_buffer():
    """[WS41] The size of the send buffer may be left to the kernel."""
    with running_edge(send_buffer_bytes=None) as edge, edge.client() as client:
        client.frame(0x81, b"x")
        assert client.receive().payload == b"x"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_over_tls(loop, tmp_path: Path):
    """[WS33] The edge serves wss as well, and closes those connections in the same way."""
    files = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=files["ssl_certfile"])
    with running_edge(loop=loop, settings=files) as edge, edge.connect() as client:
        client.socket = context.wrap_socket(client.socket, server_hostname="127.0.0.1")
        client.upgrade()
        client.frame(0x81, b"x" * 50_000)
        assert client.receive().payload == b"x" * 50_000
        client.frame(0x83)
        assert client.receive_close()[0] == 1002
        client.receive_end()
        assert edge.admission.next_peer().until("closed")[-1] == ("closed", 1002)


def self_signed(folder: Path) -> dict[str, str]:
    """Make a certificate for 127.0.0.1; returns uvicorn's settings for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    return {"ssl_keyfile": str(folder / "key.pem"), "ssl_certfile": str(folder / "certificate.pem")}
