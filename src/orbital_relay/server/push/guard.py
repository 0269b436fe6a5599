"""The network of the push sender: connections to allowed addresses only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import httpcore

from orbital_relay.config import Network
from orbital_relay.core.endpoint import is_allowed


class Guard(httpcore.AsyncNetworkBackend):
    """
    Opens connections to allowed addresses only.

    It connects to the address that it checked: a name that resolves to another one a moment later gains nothing.

    Args:
        networks: Networks that are allowed although they are not public.
        public: Whether public addresses are allowed.
    """

    def __init__(self, networks: tuple[Network, ...], *, public: bool) -> None:
        self._networks = networks
        self._public = public
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """
        Resolve a name, and connect to the first address that answers.

        Raises:
            httpcore.ConnectError: If one of its addresses is not allowed, or none answers.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise httpcore.ConnectError("the name does not resolve") from exc
        addresses = dict.fromkeys(str(where[0]).partition("%")[0] for *_, where in found)
        for address in addresses:
            if not self._allows(address):
                raise httpcore.ConnectError("the name resolves to an address in a private network")
        failure = httpcore.ConnectError("the name resolves to no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as exc:
                failure = exc
        raise failure

    def _allows(self, address: str) -> bool:
        found = ip_address(address)
        if self._public:
            return is_allowed(found, self._networks)
        return any(found in network for network in self._networks if network.version == found.version)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._backend.sleep(seconds)
