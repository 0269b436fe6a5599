"""What is sent to push services, and what their answers mean."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from email.utils import formatdate
from ipaddress import ip_network

import httpcore
import pytest

from orbital_relay.model import PushTarget
from orbital_relay.server.push import sender as sending
from orbital_relay.server.push.encryption import seal
from orbital_relay.server.push.sender import Guard, Sender
from orbital_relay.server.push.sent import Sent
from orbital_relay.server.push.vapid import FRESH_S, Vapid, new_private_key
from tests.support.push import Answer, Device, PushService

LOOPBACK = (ip_network("127.0.0.0/8"),)
NOW_S = 1_800_000_000


class Clock:
    """A clock that a test moves."""

    now_s = float(NOW_S)

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds."""
        return int(self.now_s * 1000)

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start."""
        return self.now_s


@pytest.fixture
def vapid() -> Vapid:
    """A key."""
    return Vapid(new_private_key(), contact="mailto:ann@example.org", clock=Clock())


@pytest.fixture
async def sender(vapid: Vapid) -> AsyncIterator[Sender]:
    """A sender that may send to loopback."""
    made = Sender(vapid, clock=Clock(), networks=LOOPBACK)
    yield made
    await made.close()


async def _send(sender: Sender, endpoint: str) -> Sent:
    device = Device()
    body = seal(b"{}", PushTarget(endpoint, device.p256dh, device.auth))
    return await sender.send(endpoint, body, topic="t" * 32, ttl_s=60, urgency="high")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, {}), Sent("sent")),
        ((204, {}), Sent("sent")),
        ((404, {}), Sent("gone")),
        ((410, {}), Sent("gone")),
        ((413, {}), Sent("large")),
        ((302, {"Location": "http://127.0.0.1/x"}), Sent("failed", reason="status 302")),
        ((403, {}), Sent("failed", reason="status 403")),
        ((429, {"Retry-After": "17"}), Sent("failed", 17, "status 429")),
        ((503, {"Retry-After": formatdate(NOW_S + 90, usegmt=True)}), Sent("failed", 90, "status 503")),
        ((503, {"Retry-After": formatdate(NOW_S - 90, usegmt=True)}), Sent("failed", 0, "status 503")),
        ((503, {"Retry-After": "soon"}), Sent("failed", 0, "status 503")),
        ((503, {"Retry-After": "9" * 400}), Sent("failed", sending.MOST_WAIT_S, "status 503")),
    ],
)
async def test_answers(sender: Sender, answer: Answer, expected: Sent):
    """[PUSH19] Answers mean sent, gone, too large or failed; a redirect is a failure, and `Retry-After` has a bound."""
    async with PushService() as service:
        service.answer = lambda _path: answer

        assert await _send(sender, service.endpoint("x")) == expected
        assert service.asked == ["/push/x"]


async def test_no_answer_in_time(sender: Sender, monkeypatch: pytest.MonkeyPatch):
    """[PUSH19] A service that does not answer in time is a failure."""
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.2)
    async with PushService() as service:
        service.answer = lambda _path: (0, {})

        assert await _send(sender, service.endpoint("x")) == Sent("failed", reason="no response in time")


async def test_nobody_listens(sender: Sender):
    """[PUSH19] A service that cannot be reached is a failure whose reason has no part of the endpoint."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        sent = await _send(sender, f"http://127.0.0.1:{unused.getsockname()[1]}/secret")

    assert sent.result == "failed"
    assert "secret" not in sent.reason


@pytest.mark.parametrize(
    ("networks", "endpoint", "result"),
    [
        # What was allowed when the device subscribed need not be allowed now.
        ((), "http://127.0.0.1:9/x", "gone"),
        ((), "https://127.0.0.1:9/x", "gone"),
        ((), "https://localhost:9/x", "failed"),
        ((ip_network("10.0.0.0/8"),), "http://localhost:9/x", "failed"),
        ((), "https://no-such-name.invalid/x", "failed"),
    ],
)
async def test_private_addresses_get_nothing(vapid: Vapid, networks: sending.Networks, endpoint: str, result: str):
    """[PUSH2] Nothing is sent to a private address, whether the endpoint names it or resolves to it."""
    sender = Sender(vapid, clock=Clock(), networks=networks)

    sent = await _send(sender, endpoint)

    assert sent.result == result
    assert sent.reason
    await sender.close()


async def test_one_private_address_of_a_name_is_enough(monkeypatch: pytest.MonkeyPatch):
    """[PUSH2] A name with a public and a private address is refused: no try may reach the private one."""

    async def resolve(*_args: object, **_more: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", ("9.9.9.9", 443)), (0, 0, 0, "", ("fe80::1%eth0", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)

    with pytest.raises(httpcore.ConnectError, match="private network"):
        await Guard((), public=True).connect_tcp("push.example.org", 443)


async def test_tokens_are_used_for_an_hour():
    """[PUSH20] A service is sent one token for an hour, another service another, and the key is in no text."""
    clock = Clock()
    key = new_private_key()
    vapid = Vapid(key, contact="mailto:ann@example.org", clock=clock)
    first = vapid.authorization("https://push.example.org/a")

    assert vapid.authorization("https://push.example.org/b") == first
    assert vapid.authorization("https://other.example.org/a") != first
    clock.now_s += FRESH_S
    assert vapid.authorization("https://push.example.org/a") != first
    assert first.endswith(f"k={vapid.public_key}")
    assert key.hex() not in repr(vapid)
