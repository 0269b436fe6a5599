"""Protection against SSRF: which addresses the server may connect to for a client."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052 §2.1: the last 32 bits are an IPv4 address."""


def is_allowed(address: IPv4Address | IPv6Address, networks: Collection[IPv4Network | IPv6Network]) -> bool:
    """
    Return whether an address is public or in one of the networks.

    An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4, Teredo) is judged by that address.

    Args:
        address: The address.
        networks: Networks that are allowed although they are not public.
    """
    inner = _inside(address)
    if inner is not None:
        return is_allowed(inner, networks)
    if any(address in network for network in networks if network.version == address.version):
        return True
    return address.is_global and not address.is_multicast


def _inside(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (None if teredo is None else teredo[1])


def endpoint_fault(endpoint: str, networks: Collection[IPv4Network | IPv6Network]) -> str | None:
    """
    Return what is wrong with the address of a push service, None if it may be called.

    A name is not resolved here: each call resolves it, and checks the addresses.

    Args:
        endpoint: A URL.
        networks: Networks that are allowed although they are not public; only their services may be called over http.
    """
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be a URL"
    if not host or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        return "must be a URL"
    if parts.username is not None or parts.fragment:
        return "must have no user name and no fragment"
    if parts.scheme != "https" and not (parts.scheme == "http" and networks):
        return "must begin with https://"
    try:
        literal = ip_address(host)
    except ValueError:
        return None
    if not is_allowed(literal, networks):
        return "must not be in a private network (ORBITAL_PUSH_NETWORKS names exceptions)"
    return None
