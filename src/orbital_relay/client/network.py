"""What all clients of a process share below HTTP: the TLS context, and the environment's proxies."""

from __future__ import annotations

import ssl
import urllib.request
from functools import cache
from ipaddress import ip_address

import httpx

from orbital_relay.client.address import Address
from orbital_relay.client.errors import Unreachable


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context of every client, with the certificates of certifi and of the system; it takes 65 ms once."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


@cache
def _no_tls() -> ssl.SSLContext:
    """Return a context that trusts nobody, for clients that never use it."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def is_direct(address: Address) -> bool:
    """
    Whether the environment's proxies are not for this address.

    They are not for hosts that NO_PROXY names, nor for this machine itself, which a proxy elsewhere cannot reach.
    """
    host = address.host
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    return loopback or bool(urllib.request.proxy_bypass(host))


def http_client(
    address: Address, *, timeout_s: float, user_agent: str, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    """
    Make the client of the REST side.

    Args:
        address: The server.
        timeout_s: How long the server may be silent, seconds.
        user_agent: The `User-Agent`.
        transport: Another transport of the program's own.

    Raises:
        Unreachable: If the environment names a proxy that cannot be used.
    """
    direct = is_direct(address)
    # An https:// proxy needs certificates also for an http:// server.
    context = _no_tls() if not address.secure and (direct or not urllib.request.getproxies()) else tls_context()
    try:
        return httpx.AsyncClient(
            base_url=address.http,
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            headers={"User-Agent": user_agent, "Accept-Encoding": "gzip"},
            transport=transport,
            verify=context,
            trust_env=not direct,
            follow_redirects=False,
        )
    except ImportError as exc:
        raise Unreachable(
            f"The server at {address.http} cannot be reached: the environment (ALL_PROXY) asks for a SOCKS proxy, "
            "which needs the package socksio. Install it (pip install 'httpx[socks]' python-socks), "
            "unset the variable, or "
            f"name {address.host} in NO_PROXY."
        ) from exc
    except (ValueError, httpx.InvalidURL) as exc:
        raise Unreachable(
            f"The server at {address.http} cannot be reached: the environment's proxy cannot be used ({exc})."
        ) from exc
