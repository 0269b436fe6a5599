"""A push service of the tests' own, and devices that decrypt what it receives (RFC 8030, 8188, 8291, 8292)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.process import eventually

Answer = tuple[int, dict[str, str]]


def b64url(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Return the bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _hmac(key: bytes, message: bytes) -> bytes:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(message)
    return mac.finalize()


class Device:
    """A browser's push subscription."""

    def __init__(self, private: ec.EllipticCurvePrivateKey | None = None, auth: bytes | None = None) -> None:
        self._private = private or ec.generate_private_key(ec.SECP256R1())
        self.auth = auth or os.urandom(16)
        self.p256dh = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def keys(self) -> dict[str, str]:
        """The keys as `PushSubscription.toJSON()` writes them."""
        return {"p256dh": b64url(self.p256dh), "auth": b64url(self.auth)}

    def open(self, body: bytes) -> bytes:
        """Decrypt a message of one record, step by step as RFC 8291 §3.4 and RFC 8188 §2 write it."""
        salt, size, length = body[:16], int.from_bytes(body[16:20]), body[20]
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert size >= len(sealed) > 17, "the message is of more than one record"
        shared = self._private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        secret = _hmac(_hmac(self.auth, shared), b"WebPush: info\0" + self.p256dh + sender + b"\x01")
        key = _hmac(salt, secret)
        content_key = _hmac(key, b"Content-Encoding: aes128gcm\0\x01")[:16]
        nonce = _hmac(key, b"Content-Encoding: nonce\0\x01")[:12]
        padded = AESGCM(content_key).decrypt(nonce, sealed, None).rstrip(b"\0")
        assert padded.endswith(b"\x02"), "the last record has another delimiter"
        return padded[:-1]


@dataclass
class Message:
    """One message that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.body)

    def read(self, device: Device) -> Any:
        """Decrypt the payload."""
        return json.loads(device.open(self.body))


class PushService:
    """
    A push service on loopback: it accepts what is signed by the key, and stores it.

    Attributes:
        messages: What it accepted, in the order of arrival.
        asked: The path of every request.
        answer: Chooses the answer to a path; 201 by default. An answer of status 0 never comes.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.asked: list[str] = []
        self.answer: Callable[[str], Answer] = lambda _path: (201, {})
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def endpoint(self, name: str) -> str:
        """Return the address of a device."""
        return f"http://127.0.0.1:{self.port}/push/{name}"

    async def arrived(self, count: int, *, deadline_s: float = 120) -> list[Message]:
        """Wait until so many messages were accepted; return all."""
        await eventually(lambda: len(self.messages) >= count, what=f"{count} messages arrive", deadline_s=deadline_s)
        return self.messages

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *lines = head.decode("latin-1").strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._take(writer, line.split()[1], headers, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _take(self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], body: bytes) -> None:
        self.asked.append(path)
        status, more = self.answer(path)
        if status == 0:
            return
        if status == 201:
            self._check(headers)
            self.messages.append(Message(path, headers, body))
        lines = [f"HTTP/1.1 {status} X", "Content-Length: 0", *(f"{name}: {value}" for name, value in more.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()

    def _check(self, headers: dict[str, str]) -> None:
        """Check what RFC 8030 and RFC 8292 ask of a sender."""
        assert headers["content-encoding"] == "aes128gcm"
        assert 0 <= int(headers["ttl"]) <= 3 * 24 * 3600
        assert headers["urgency"] in {"very-low", "low", "normal", "high"}
        assert 0 < len(headers["topic"]) <= 32
        scheme, _, rest = headers["authorization"].partition(" ")
        assert scheme == "vapid"
        fields = dict(each.strip().split("=", 1) for each in rest.split(","))
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64url(fields["k"]))
        claims = jwt.decode(fields["t"], point, algorithms=["ES256"], audience=f"http://127.0.0.1:{self.port}")
        assert claims["sub"].startswith(("mailto:", "https://"))
        assert 0 < claims["exp"] - time.time() <= 24 * 3600
