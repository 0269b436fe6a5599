"""Requests to push services over HTTP (404 and 410 mean gone), never to an address inside the server's own network."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from orbital_relay.config import Network
from orbital_relay.core.endpoint import endpoint_fault
from orbital_relay.ports import Clock
from orbital_relay.server.push.vapid import Vapid

if TYPE_CHECKING:
    import httpcore

TIMEOUT_S: Final = 10.0
"""Deadline of one message, from the look-up of the name to the head of the response."""
MOST_CONNECTIONS: Final = 32
"""Connections to push services at a time."""
IDLE_S: Final = 60.0
"""How long an unused connection stays open."""
BODY_BYTES: Final = 16 * 1024
"""Most bytes of a response that are read, so that its connection can be used again."""
MOST_WAIT_S: Final = 24 * 3600
"""Longest `Retry-After` that is obeyed."""


class Sent(msgspec.Struct, frozen=True):
    """
    What a push service said.

    Attributes:
        result: `sent`; `gone`: the endpoint no longer exists; `large`: a smaller message may go through; `failed`.
        retry_after_s: How long the service asked to wait, in seconds.
        reason: Why it failed, without the endpoint: that is a secret.
    """

    result: Literal["sent", "gone", "large", "failed"]
    retry_after_s: float = 0
    reason: str = ""


class Sender:
    """
    Sends messages to push services. It follows no redirect.

    Args:
        vapid: Signs.
        clock: The time.
        networks: Networks that are allowed although they are not public; http is for these alone.
    """

    def __init__(self, vapid: Vapid, *, clock: Clock, networks: tuple[Network, ...]) -> None:
        self._vapid = vapid
        self._clock = clock
        self._networks = networks
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}

    async def send(self, endpoint: str, body: bytes, *, topic: str, ttl_s: int, urgency: str) -> Sent:
        """
        Send an encrypted message; never raises for what the service does.

        Args:
            endpoint: Where to.
            body: As `encryption.seal` made it.
            topic: A message that waits is replaced by a later one of its topic (RFC 8030 §5.4).
            ttl_s: How long the service keeps it for a device that is not there.
            urgency: `normal` or `high` (RFC 8030 §5.3).
        """
        # A server whose users have no subscriptions needs no HTTP client: see ops/plain_structlog.py.
        import httpcore  # noqa: PLC0415

        fault = endpoint_fault(endpoint, self._networks)
        if fault is not None:
            return Sent("gone", reason=f"the endpoint {fault}")
        headers = [
            ("Authorization", self._vapid.authorization(endpoint)),
            ("Content-Encoding", "aes128gcm"),
            ("Content-Type", "application/octet-stream"),
            ("Topic", topic),
            ("TTL", str(ttl_s)),
            ("Urgency", urgency),
        ]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                pool = await self._pool(endpoint.partition(":")[0])
                async with pool.stream("POST", endpoint, headers=headers, content=body) as answer:
                    sent = self._read(answer)
                    await _drain(answer)
        except TimeoutError:
            return Sent("failed", reason="no response in time")
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as exc:
            return Sent("failed", reason=f"{type(exc).__name__}: {exc}".rstrip(": "))
        except (OSError, ssl.SSLError, UnicodeError) as exc:
            return Sent("failed", reason=type(exc).__name__)
        return sent

    def _read(self, answer: httpcore.Response) -> Sent:
        status = answer.status
        if 200 <= status < 300:
            return Sent("sent")
        if status in {404, 410}:
            return Sent("gone")
        if status == 413:
            return Sent("large")
        asked = next((value for name, value in answer.headers if name.lower() == b"retry-after"), b"")
        return Sent("failed", self._retry_after_s(asked.decode("latin-1")), f"status {status}")

    def _retry_after_s(self, text: str) -> float:
        """Read `Retry-After`, seconds or a date (RFC 9110 §10.2.3)."""
        wait_s = 0.0
        if text.isascii() and text.isdigit():
            wait_s = float(text[:9])
        elif text:
            with contextlib.suppress(ValueError):
                wait_s = parsedate_to_datetime(text).timestamp() - self._clock.wall_ms() / 1000
        return max(0.0, min(wait_s, MOST_WAIT_S))

    async def _pool(self, scheme: str) -> httpcore.AsyncConnectionPool:
        if scheme not in self._pools:
            import httpcore  # noqa: PLC0415

            from orbital_relay.server.push.guard import Guard  # noqa: PLC0415

            # Reading the system's certificates takes some 20 ms.
            tls = await asyncio.to_thread(ssl.create_default_context)
            guard = Guard(self._networks, public=scheme == "https")
            self._pools.setdefault(
                scheme,
                httpcore.AsyncConnectionPool(
                    tls, max_connections=MOST_CONNECTIONS, keepalive_expiry=IDLE_S, network_backend=guard
                ),
            )
        return self._pools[scheme]

    async def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            await pool.aclose()


async def _drain(answer: httpcore.Response) -> None:
    """Read a small rest; the connection of a larger one is closed."""
    size = 0
    async for piece in answer.aiter_stream():
        size += len(piece)
        if size > BODY_BYTES:
            return
