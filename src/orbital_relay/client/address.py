"""The address of a server, as people write it and as the client uses it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec


class Address(msgspec.Struct, frozen=True):
    """
    Where a server is.

    Attributes:
        http: The base of the REST side, without a slash at its end.
        websocket: The address of the socket.
        host: The host alone, without a port.
    """

    http: str
    websocket: str
    host: str

    @property
    def secure(self) -> bool:
        """Whether the connections use TLS."""
        return self.http.startswith("https:")


_SOCKET_PATHS: Final = re.compile(r"/(?:ws|v1/websocket)/?\Z")


def address_of(url: str) -> Address:
    """
    Parse the address of a server.

    Args:
        url: `http://`, `https://`, `ws://` or `wss://`, a host, an optional port, and an optional path before `/ws`.

    Raises:
        ValueError: If it is not an address; the text says why.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise ValueError(f"{url!r} is not an address: {exc}.") from exc
    secure = {"http": False, "https": True, "ws": False, "wss": True}.get(parts.scheme)
    if secure is None or not parts.hostname:
        raise ValueError(f"{url!r} is not an address of a server; write it like http://localhost:3000.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"The address {parts.hostname} must not contain a user, a query or a fragment.")
    # RFC 6874 §2: `%25` before the zone of a link-local address stands for `%`; sockets know the zone by its own name.
    place, host = parts.netloc.replace("%25", "%"), parts.hostname.replace("%25", "%")
    path = _SOCKET_PATHS.sub("", parts.path).rstrip("/")
    return Address(
        urlunsplit(("https" if secure else "http", place, path, "", "")),
        urlunsplit(("wss" if secure else "ws", place, f"{path}/ws", "", "")),
        host,
    )
