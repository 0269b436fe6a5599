"""The WebSocket handshake (RFC 6455 §4): request, validation, and the two possible responses."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar, overload
from urllib.parse import parse_qsl, urlsplit

import msgspec

from orbital_relay.errors import OrbitalError, UpgradeRequired, ValidationFailed
from orbital_relay.server.edge.deflate import negotiate
from orbital_relay.server.edge.peer import Peer
from orbital_relay.server.edge.request_head import decode_path, request_id

_T = TypeVar("_T")

# What is asked


class Headers(Mapping[str, str]):
    """A request's headers by name, whatever its case; a repeated one is joined by commas."""

    __slots__ = ("_by_name",)

    def __init__(self, by_lower_name: dict[str, str]) -> None:
        self._by_name = by_lower_name

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    @overload
    def get(self, name: str, /) -> str | None: ...

    @overload
    def get(self, name: str, /, default: str | _T) -> str | _T: ...

    def get(self, name: str, /, default: str | _T | None = None) -> str | _T | None:
        """Return a header's value. The mix-in's version raises and catches an error for each that is missing."""
        return self._by_name.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        # A value may contain a token, which must not reach a log.
        return f"Headers({sorted(self._by_name)})"


class Handshake(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """
    A request that asks for an upgrade, before anything is decided.

    Attributes:
        method: GET, unless it was refused.
        path: Percent-decoded, without the query.
        query: The first value of each name, percent-decoded.
        headers: By name, whatever its case.
        peer: The address and port at the other end of the socket; None for a Unix socket.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    peer: tuple[str, int] | None

    def __repr__(self) -> str:
        # Query and headers may carry a token.
        return f"Handshake({self.method} {self.path} from {self.peer})"


# What is answered


class Refuse(msgspec.Struct, frozen=True):
    """
    No: a plain HTTP answer, after which the line is closed.

    Attributes:
        status: 400 or above.
        body: The JSON error body.
        headers: More of them; `content-type`, `content-length` and `connection` are the edge's.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def refusal(error: OrbitalError, *, given_id: str | None = None) -> Refuse:
    """
    Refuse with an error of the table; a 5xx has the id of the request in its body.

    Args:
        error: The error.
        given_id: The header `X-Request-Id`.
    """
    more = {"request_id": request_id(given_id)} if error.status >= 500 else {}
    return Refuse(error.status, error.body(**more), tuple(error.headers.items()))


class Admit(msgspec.Struct, frozen=True):
    """
    Yes.

    Attributes:
        peer: The conversation to open. If the client has gone meanwhile, it is never opened.
        subprotocol: What to answer as `Sec-WebSocket-Protocol`; must be one that was offered.
    """

    peer: Peer
    subprotocol: str | None = None


class HandshakeAdmission(Protocol):
    """Decides who gets in. Asked twice: first for the path, and when the upgrade is a good one, for the rest."""

    def route(self, path: str) -> Refuse | None:
        """Refuse a path that does not exist; None lets it pass."""

    def decide(self, handshake: Handshake) -> Admit | Refuse | Awaitable[Admit | Refuse]:
        """
        Decide about a handshake.

        What is awaited is cancelled when the client disconnects, or when it takes more than DECISION_S.
        """


# The request on the line


def read_headers(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the fields of a head by name, as the parser gives them: names in lower case."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
        # RFC 9110 §5.3: repeated headers are one list.
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def parse_target(target: str) -> tuple[str, dict[str, str]]:
    """Read path and query of a request target, in origin or absolute form (RFC 9112 §3.2)."""
    if target.startswith("/"):
        raw_path, _, raw_query = target.partition("?")
    else:
        try:
            parts = urlsplit(target)
        except ValueError:
            raise ValidationFailed("The request's address cannot be parsed.", field="path") from None
        raw_path, raw_query = parts.path or "/", parts.query
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        query.setdefault(name, value)
    return decode_path(raw_path), query


def check_upgrade(headers: dict[str, str]) -> None:
    """
    Check what RFC 6455 §4.2.1 asks of the client's headers; uvicorn has seen `Upgrade` and `Connection`.

    Raises:
        UpgradeRequired: If the version is another than 13.
        ValidationFailed: If the key or the extensions do not have their form.
    """
    if headers.get("sec-websocket-version") != "13":
        raise UpgradeRequired(
            "This server supports only version 13 of the WebSocket protocol (Sec-WebSocket-Version: 13)."
        )
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:
        raise ValidationFailed("Sec-WebSocket-Key must be 16 bytes in base64, once.", field="sec-websocket-key")
    try:
        negotiate(headers.get("sec-websocket-extensions", ""))
    except ValueError as error:
        raise ValidationFailed(f"{error}.", field="sec-websocket-extensions") from None
