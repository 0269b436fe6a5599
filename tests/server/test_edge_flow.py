"""Flow control and closing at the edge: slow readers, floods, closing by the peer, lost connections, shutdown."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from orbital_relay.core.framing import PING, frame, text_frame
from orbital_relay.server.edge import socket_writer, upgrade
from orbital_relay.server.edge.handshake import Refuse
from tests.support import process
from tests.support.edge import DEADLINE_S, Client, EchoAdmission, EchoPeer, Edge, masked, running_edge, unsent

HIGH, LOW = 65536, 16384


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest) -> Iterator[Edge]:
    """An edge on each loop."""
    with running_edge(loop=request.param, high_water_bytes=HIGH, low_water_bytes=LOW) as edge:
        yield edge


@pytest.fixture
def edge(running: Edge) -> Edge:
    """An edge that remembers nothing of the test before."""
    running.admission.forget()
    return running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that have to end do so soon."""
    for room in (upgrade, socket_writer):
        monkeypatch.setattr(room, "LINGER_S", 0.2)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that should end by themselves are not helped by the clock."""
    for room in (upgrade, socket_writer):
        monkeypatch.setattr(room, "LINGER_S", 600.0)


def until(edge: Edge, what) -> None:
    """Wait until something is true on the server's loop."""
    process.until(lambda: edge.call(what), what="a fact on the server's loop", every_s=0)


def flood(edge: Edge, peer: EchoPeer, *, wire: bytes = text_frame(b"x" * 1000)) -> int:
    """Write frames until the peer's line is not writable; returns how many."""
    assert peer.ready.wait(DEADLINE_S)

    def write() -> bool:
        peer.line.write(wire)
        return peer.line.writable

    written = 1
    while edge.call(write):
        written += 1
    return written


def send_for_ever(client: Client) -> None:
    """Send until the socket breaks."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        client.send(b"x" * 65536)


# Flow


def test_a_slow_reader_is_noticed_and_loses_nothing(edge: Edge):
    """[WS40] A peer is paused above the high watermark and resumed below the low one; all written data arrives."""
    with edge.client(receive_buffer_bytes=4096) as client:
        peer = edge.admission.next_peer()
        written = flood(edge, peer)
        assert peer.until("paused") == [("opened",), ("paused",)]
        assert not peer.line.writable
        assert HIGH < edge.call(lambda: unsent(peer.line)) <= HIGH + 2000

        assert all(client.receive() == (0x81, b"x" * 1000) for _ in range(written))
        assert peer.until("resumed") == [("resumed",)]
        assert peer.line.writable
        until(edge, lambda: unsent(peer.line) == 0)


def test_the_socket_buffer_is_bounded(edge: Edge):
    """[WS41] With its send buffer bounded, the kernel holds less than 1 MB for a client that does not read."""
    with edge.client(receive_buffer_bytes=4096):
        peer = edge.admission.next_peer()

        assert flood(edge, peer) < 1000


def test_pings_of_a_client_that_does_not_read(edge: Edge):
    """[WS42] While a connection is not writable, pings do not pile up: only the last is answered (RFC 6455 §5.5.3)."""
    with edge.client(receive_buffer_bytes=4096) as client:
        peer = edge.admission.next_peer()
        written = flood(edge, peer)
        peer.until("paused")
        before = edge.call(lambda: unsent(peer.line))
        for n in range(1000):
            client.frame(0x80 | PING, b"%d" % n)
        for _ in range(1000):
            peer.until("control")
        assert edge.call(lambda: unsent(peer.line)) <= before

        for _ in range(written):
            client.receive()
        assert client.receive() == (0x8A, b"999")


def test_reading_can_be_paused(edge: Edge):
    """[WS43] While reading is paused no frame is delivered; after resuming, all are."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        edge.call(peer.line.pause_reading)
        client.frame(0x81, b"x")
        edge.call(lambda: peer.line.write(text_frame(b"mark")))
        assert client.receive().payload == b"mark"
        assert peer.calls.empty()

        edge.call(peer.line.resume_reading)
        assert client.receive().payload == b"x"


def test_frames_of_one_loop_iteration_are_joined(edge: Edge):
    """[WS44] Frames may be joined in one write: only the byte stream matters."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        edge.call(lambda: peer.line.write(text_frame(b"1") + text_frame(b"2")))

        assert [client.receive().payload for _ in range(2)] == [b"1", b"2"]


class SilentPeer(EchoPeer):
    """A peer that answers nothing and remembers only the last."""

    def text(self, payload: bytes) -> None:
        """Remember it if it is the last."""
        if payload == b"last":
            self.calls.put(("last",))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_flood_of_small_frames_takes_no_memory(loop):
    """[WS51] The read buffer grows only for a long frame: a flood of short frames does not grow it."""
    with running_edge(EchoAdmission(SilentPeer), loop=loop) as edge, edge.client() as client:
        peer = edge.admission.next_peer()
        assert peer.ready.wait(DEADLINE_S)
        (connection,) = edge.server.server_state.connections
        client.send(masked(0x81, b"x" * 10) * 500_000 + masked(0x81, b"last"))
        peer.until("last")
        assert edge.call(lambda: len(connection.get_buffer(-1))) < 2048

        client.send(masked(0x81, b"x" * 65536) * 20 + masked(0x81, b"last"))
        peer.until("last")
        assert edge.call(lambda: len(connection.get_buffer(-1))) < 4 * 65536


# Closing by the peer


def test_close(edge: Edge, patient: None):
    """[WS45] The peer's Close is sent once, after all written data; the client's Close ends the connection at once."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")

        def close() -> None:
            peer.line.write(text_frame(b"last words"))
            peer.line.close(4001, "why")
            peer.line.close(4002, "why not")
            peer.line.write(text_frame(b"too late"))

        edge.call(close)
        assert client.receive() == (0x81, b"last words")
        assert client.receive_close() == (4001, "why")
        client.frame(0x81, b"discarded")
        client.frame(0x88, b"\x0f\xa1")
        client.receive_end()

        assert peer.until("closed") == [("closed", 4001)]


def test_close_without_an_answer(edge: Edge, impatient: None):
    """[WS45] A client that does not answer the Close is disconnected soon; the peer is notified with its own code."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        edge.call(lambda: peer.line.close(1008))

        assert client.receive_close() == (1008, "")
        assert peer.until("closed") == [("closed", 1008)]
        client.receive_end()


def test_close_behind_a_full_buffer(edge: Edge, impatient: None):
    """[WS45] A client that reads nothing at all is disconnected just as soon."""
    with edge.client(receive_buffer_bytes=4096) as client:
        peer = edge.admission.next_peer()
        flood(edge, peer)
        edge.call(lambda: peer.line.close(1008))

        assert peer.until("closed")[-1] == ("closed", 1008)
        until(edge, lambda: not edge.registry and not edge.server.server_state.connections)
        client.send(b"")


def test_close_while_reading_is_paused(edge: Edge, patient: None):
    """[WS45] The client's Close is read even if reading was paused."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        edge.call(peer.line.pause_reading)
        edge.call(lambda: peer.line.close(1001))
        assert client.receive_close() == (1001, "")
        client.frame(0x88, b"\x03\xe9")

        client.receive_end()
        assert peer.until("closed") == [("closed", 1001)]


def test_a_client_that_misbehaves_after_our_close(edge: Edge, patient: None):
    """[WS45] After the server's Close, a bad frame ends the connection; no second Close is sent."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        edge.call(lambda: peer.line.close(4000))
        assert client.receive_close() == (4000, "")
        client.frame(0x83)

        client.receive_end()
        assert peer.until("closed") == [("closed", 4000)]


def test_close_with_a_code_that_may_not_be_sent(edge: Edge):
    """[WS2] A peer that closes with a forbidden code gets a ValueError, and the connection stays open."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        with pytest.raises(ValueError, match="1006"):
            edge.call(lambda: peer.line.close(1006))
        client.frame(0x81, b"x")

        assert client.receive().payload == b"x"


def test_abort(edge: Edge):
    """[WS46] An aborted connection ends at once; the peer is notified without a code."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        edge.call(peer.line.abort)

        client.receive_end()
        assert peer.until("closed") == [("closed", None)]


def test_methods_of_a_closed_connection_do_nothing(edge: Edge):
    """[WS46] After a connection has ended, every method of it does nothing."""
    with edge.client():
        peer = edge.admission.next_peer()
    peer.until("closed", None)

    def use() -> int:
        peer.line.write(text_frame(b"x"))
        peer.line.close(1000)
        peer.line.pause_reading()
        peer.line.resume_reading()
        peer.line.abort()
        return unsent(peer.line)

    until(edge, lambda: not edge.registry)
    assert edge.call(use) == 0
    assert peer.calls.empty()


# Lost connections


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
def test_a_client_that_disconnects_without_a_close(edge: Edge, hard: bool):
    """[WS47] The peer of a lost connection is notified without a code, and the connection is unregistered."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        peer.until("opened")
        assert len(edge.call(lambda: list(edge.registry))) == 1
        if hard:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert peer.until("closed") == [("closed", None)]
    until(edge, lambda: not edge.registry and not edge.server.server_state.connections)


def test_half_closed_with_a_full_buffer(edge: Edge, impatient: None):
    """[WS47] A client that closes only its sending side and never reads does not hold the connection open."""
    with edge.client(receive_buffer_bytes=4096) as client:
        peer = edge.admission.next_peer()
        flood(edge, peer)
        client.socket.shutdown(socket.SHUT_WR)

        assert peer.until("closed")[-1] == ("closed", None)
        until(edge, lambda: not edge.registry)


def test_a_bad_client_that_stays(edge: Edge, impatient: None):
    """[WS17] A client that violated the protocol and stays is disconnected soon; reading from it is bounded."""
    with edge.client() as client:
        peer = edge.admission.next_peer()
        client.frame(0x83)
        assert client.receive_close()[0] == 1002
        assert peer.until("closed")[-1] == ("closed", 1002)
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            send_for_ever(client)

        until(edge, lambda: not edge.server.server_state.connections)


def test_an_unread_refusal(edge: Edge, impatient: None):
    """[WS28] A client that does not read its refusal is disconnected as well."""
    big = Refuse(404, b"x" * 3_000_000)
    edge.admission.decision = lambda _: big
    with edge.connect(receive_buffer_bytes=4096) as client:
        client.ask_upgrade()
        until(edge, lambda: len(edge.admission.asked) == 1)

        until(edge, lambda: not edge.server.server_state.connections)


# Peers that fail


class FailingPeer(EchoPeer):
    """A peer with a mistake in one method."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, self.fail)

    def fail(self, *args: object) -> None:
        """Fail."""
        raise RuntimeError("clumsy")


@pytest.mark.parametrize(
    "method, wire",
    [
        ("opened", b""),
        ("text", masked(0x81, b"x") + masked(0x81, b"y")),
        ("control", masked(0x89)),
        ("pong", masked(0x8A)),
    ],
    ids=["opened", "text", "control", "pong"],
)
def test_a_peer_that_fails(method: str, wire: bytes, caplog: pytest.LogCaptureFixture):
    """[WS48] An exception in a peer is 1011 for its client and an error in the log; no other connection is affected."""
    with running_edge(EchoAdmission(lambda: FailingPeer(method))) as edge, edge.client() as client:
        peer = edge.admission.next_peer()
        client.send(wire)

        assert client.receive_close() == (1011, "")
        client.receive_end()
        assert peer.until("closed")[-1] == ("closed", 1011)
    assert caplog.text.count("RuntimeError: clumsy") == 1


@pytest.mark.parametrize("method", ["paused", "closed"])
def test_a_peer_that_fails_when_it_is_notified(method: str, caplog: pytest.LogCaptureFixture):
    """[WS48] An exception in a peer's pause or close callback does not affect the server."""
    with running_edge(EchoAdmission(lambda: FailingPeer(method))) as edge:
        with edge.client(receive_buffer_bytes=4096):
            peer = edge.admission.next_peer()
            flood(edge, peer)
        until(edge, lambda: not edge.registry)
    assert "RuntimeError: clumsy" in caplog.text


# Shutdown


def test_shutdown(patient: None):
    """[WS49] A shutdown sends 1012 to every connection and waits until all are closed."""
    with running_edge() as edge:
        clients = [edge.client() for _ in range(20)]
        peers = [edge.admission.next_peer() for _ in clients]
        edge.server.should_exit = True
        for client in clients:
            assert client.receive_close()[0] == 1012
            client.frame(0x88, b"\x03\xf4")
            client.receive_end()
            client.socket.close()
    assert [peer.until("closed")[-1] for peer in peers] == [("closed", 1012)] * 20
    assert edge.registry == set()


def test_shutdown_with_clients_that_do_not_answer():
    """[WS49] A client that ignores the shutdown does not delay it for longer than the linger time."""
    with running_edge() as edge:
        client = edge.client()
    # The edge has stopped, or `running_edge` had failed, while the client still keeps its side open.
    assert client.receive_close()[0] == 1012
    client.socket.close()


# Many connections


def test_storm_of_connections(edge: Edge):
    """[WS50] Clients that connect and disconnect leave no resources behind."""

    def come_and_go(ending: int) -> None:
        for _ in range(25):
            with edge.client() as client:
                client.frame(0x81, b"x")
                client.receive()
                if ending == 0:
                    client.frame(0x88, b"\x03\xe8")
                    client.receive_close()
                elif ending == 1:
                    client.frame(0x8F)

    threads = [threading.Thread(target=come_and_go, args=(n % 3,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    until(edge, lambda: not edge.registry and not edge.server.server_state.connections)
    ends = [edge.admission.next_peer().until("closed")[-1][1] for _ in range(150)]
    assert sorted(ends, key=str) == [1000] * 50 + [1002] * 50 + [None] * 50


def test_the_client_helper_masks_correctly():
    """[WS1] The test's client masks as in the example of RFC 6455 §5.3."""
    assert masked(0x81, b"Hello", key=b"\x37\xfa\x21\x3d") == bytes.fromhex("818537fa213d7f9f4d5158")
    assert frame(1, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert Client.KEY
