"""
Which rate limits an admission (a handshake) counts against, and the key of an address.

| policy | the token holds | it does not |
| --- | --- | --- |
| `home` | address and user, and the address' ceiling | address, and its ceiling |
| `strict` | address | address |
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal, TypeAlias

import msgspec

AdmissionPolicy: TypeAlias = Literal["home", "strict"]


class Count(msgspec.Struct, frozen=True):
    """
    One count that an attempt goes into.

    Attributes:
        name: What is counted.
        key: Whose it is.
        limit: Most attempts in a window.
    """

    name: str
    key: str
    limit: int


def connect_counts(
    policy: AdmissionPolicy, *, address: str, user_id: str | None, limit: int, ceiling: int
) -> tuple[Count, ...]:
    """
    Return the counts that must all have room for a handshake.

    Args:
        policy: What counts as one.
        address: Whom the attempt comes from.
        user_id: The user of its token; None if the token is invalid.
        limit: Attempts in a window.
        ceiling: Attempts of an address in a window with `home`, of all users together.
    """
    place = address_key(address)
    if policy == "strict":
        return (Count("connect", place, limit),)
    whole = Count("connect.ceiling", place, ceiling)
    if user_id is None:
        return Count("connect.stranger", place, limit), whole
    # A userId is visible ASCII, so the blank cannot be part of it.
    return Count("connect.user", f"{place} {user_id}", limit), whole


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """
    Return what attempts from an address are counted under.

    An IPv6 address counts as its /64, since that is what one customer gets at least (RFC 6177 §2), and a client with a
    /64 has 2^64 addresses. Link-local addresses are one machine each, and stand for themselves.
    """
    ip = parse_address(address)
    if isinstance(ip, IPv6Address) and not ip.is_link_local and not ip.is_loopback:
        return str(IPv6Network((int(ip), 64), strict=False))
    return address if ip is None else str(ip)


@lru_cache(maxsize=4096)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """
    Read an IP address, with a port or brackets if need be; None when it is none.

    An IPv4 address that is written as IPv6 (RFC 4291 §2.5.5.2), as a socket for both sees it, is the IPv4 address.
    """
    bare = text.strip().strip('"')
    if bare.startswith("["):
        bare, closed, port = bare[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return None
    elif bare.count(":") == 1:
        bare, _, number = bare.partition(":")
        if not _is_port(f":{number}"):
            return None
    try:
        ip = ip_address(bare)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit()
