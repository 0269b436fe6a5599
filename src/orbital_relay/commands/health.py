"""`orbital health`: the liveness and readiness probe for container runtimes and scripts."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Final

import click

from orbital_relay.commands.server_options import load, settings_options
from orbital_relay.commands.terminal import say_json

# Shorter than the time-out of a container's health check, so that the sentence is seen.
_TIMEOUT_S: Final = 3.0


@click.command(
    epilog="""\b
Examples:
  orbital health                         is the process alive?
  orbital health --ready                 does it store posts?
  orbital health --port 3001
  orbital health --uds /run/orbital/orbital.sock
"""
)
@click.option("--ready", is_flag=True, help="Ask /health/ready, the readiness probe: whether posts can be stored.")
@settings_options("host", "port", "uds", "tls_cert")
def health(*, ready: bool, **flags: str | None) -> None:
    """
    Ask the server that runs here with these settings whether it is alive.

    The exit status is 0 if it is. This is the liveness probe: it does not fail when Redis or the database is
    unreachable, so that no supervisor restarts the server for it. --ready checks the database too.
    """
    settings = load(flags)
    host, path = _reachable(settings.host), "/health/ready" if ready else "/health/live"
    where = f"{host}, port {settings.port}" if settings.uds is None else str(settings.uds)
    # Not through a proxy that the environment may name: the server is on this machine.
    connection = http.client.HTTPConnection(host, settings.port, timeout=_TIMEOUT_S)
    if settings.uds is not None:
        connection = _OverSocket(settings.uds)
    elif settings.tls_cert is not None:
        # The certificate is for the public name, and no certificate names this machine.
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001 - the standard library's one name for it
        connection = http.client.HTTPSConnection(host, settings.port, timeout=_TIMEOUT_S, context=unverified)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as exc:
        raise click.ClickException(f"No answer from {where}: {exc}.") from exc
    finally:
        connection.close()
    say_json(body)
    if answer.status != http.client.OK:
        raise click.exceptions.Exit(1)


class _OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _reachable(host: str) -> str:
    """Return an address at which a server that listens at `host` can be asked: loopback if it listens everywhere."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
