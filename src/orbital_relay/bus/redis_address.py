"""The address of Redis, and how to open a connection to it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from redis.asyncio.connection import SSLConnection, parse_url


class RedisAddress:
    """Where a Redis is and how to speak to it, read from a URL by the library's own reader."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = dict(parse_url(url))
        self.host: str = options.get("host") or "localhost"
        self.port: int = options.get("port") or 6379
        self.path: str | None = options.get("path")
        self.username: str | None = options.get("username")
        self.password: str | None = options.get("password")
        self._tls = _tls(options) if options.get("connection_class") is SSLConnection else None

    @property
    def shown(self) -> str:
        """Where it is, without the password."""
        return self.path or f"{self.host}:{self.port}"

    async def connect(self, link: asyncio.Protocol, host: str | None = None, port: int | None = None) -> None:
        """Connect a link, to this address or to another of the same cluster."""
        loop = asyncio.get_running_loop()
        if self.path is not None and host is None:
            await loop.create_unix_connection(lambda: link, self.path)
        else:
            host = host or self.host
            await loop.create_connection(lambda: link, host, port or self.port, ssl=self._tls)


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    """Make the TLS side of `rediss://` from the options that redis-py's URLs have."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_check_hostname") is False or options.get("ssl_cert_reqs") in {"none", "optional"}:
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
