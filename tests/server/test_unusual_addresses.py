"""Addresses from public bug reports of other servers: zones of IPv6, and non-ASCII names."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.client import Api, NewMessage, connect
from orbital_relay.client.address import address_of
from orbital_relay.config import load
from orbital_relay.server.edge.listening import ListenAddress
from tests.support import tokens
from tests.support.client import PASSWORD
from tests.support.edge import Client
from tests.support.server import Server


async def _talk(url: str) -> None:
    """Sign up, post and receive, all by the Python SDK at one address."""
    async with asyncio.timeout(60):
        async with Api(url) as api:
            account = await api.signup("somebody", PASSWORD, {})
        async with connect(url, token=account.token) as orbital:
            group = await orbital.api.create_group("QQ==", "QQ==")
            await orbital.send(group.group_id, b"hello")
            async for event in orbital.subscribe(group.group_id, since=0):
                if isinstance(event, NewMessage):
                    return


def _link_local() -> str:
    """Return a link-local address of this machine with its zone; sent to oneself, nothing leaves the machine."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        lines = []
    for raw, _, _, scope, _, name in (line.split() for line in lines):
        if scope == "20":
            return f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw))}%{name}"
    pytest.skip("no interface of this machine has a link-local address of IPv6")


async def test_a_link_local_address(tmp_path: Path):
    """
    [UNUSUAL1] A server at a link-local address prints an address with its zone, usable by the SDK and health check.

    The zone was missing, so that the printed address was unusable, and `%25` was parsed as the zone's name.
    """
    host = _link_local()
    server = Server(tmp_path, args=("--host", host), env={"ORBITAL_SIGNUPS": "open"})
    program = server.launch()
    try:
        url = (await asyncio.to_thread(program.wait_for, r'"url": "(?P<url>http://\[\S+\]:(?P<port>\d+))"'))["url"]

        assert url.startswith(f"http://[{host.replace('%', '%25')}]:")
        await _talk(url)
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "orbital_relay", "health", "--host", host, "--port", url.rpartition(":")[2]],
            check=True,
            timeout=60,
        )
    finally:
        program.terminate()


@pytest.mark.parametrize(
    "url, http, host",
    [
        ("http://[fe80::1%25eth0]:3000", "http://[fe80::1%eth0]:3000", "fe80::1%eth0"),
        ("ws://[fe80::1%eth0]:3000/ws", "http://[fe80::1%eth0]:3000", "fe80::1%eth0"),
    ],
)
def test_zones(url: str, http: str, host: str):
    """[UNUSUAL2] The zone of an address is read in RFC 6874's form and in the plain form; RFC 6874's is printed."""
    assert (address_of(url).http, address_of(url).host) == (http, host)
    assert ListenAddress(host, 3000).url == "http://[fe80::1%25eth0]:3000"


async def test_a_name_with_an_umlaut(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch):
    """[UNUSUAL3] The SDK connects to a server with a non-ASCII name: it resolves the name in Punycode."""
    server = serve(env={"ORBITAL_SIGNUPS": "open"})
    resolve = socket.getaddrinfo

    def resolver(host: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if name == "xn--exmple-cua.test" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)

    await _talk(f"http://Exämple.test:{server.port}")


@pytest.mark.parametrize("written", ["https://exämple.test", "https://EXÄMPLE.test:443", "https://xn--exmple-cua.test"])
def test_an_origin_with_an_umlaut(serve: Callable[..., Server], written: str):
    """
    [UNUSUAL4] An allowed origin may be written in Unicode: a browser sends it in Punycode (RFC 6454 §6.2).

    It was compared in its written form, so no page of such a name could connect.
    """
    server = serve(env={"ORBITAL_ALLOWED_ORIGINS": written})
    statuses = []
    for origin in ("https://xn--exmple-cua.test", "https://xn--exmple-cub.test"):
        with Client(server.port) as client:
            client.ask_upgrade(f"Origin: {origin}\r\nAuthorization: Bearer {tokens.token('ada', 'ada')}\r\n")
            statuses.append(client.answer()[0])

    assert statuses == [101, 403]


def test_origins_without_a_valid_name():
    """[UNUSUAL5] An origin whose name has no Punycode form is refused at the start, with its value."""
    with pytest.raises(Exception, match=re.escape("https://ex␀mple.test")):
        load({}, {"ORBITAL_ALLOWED_ORIGINS": "https://ex␀mple.test"})
