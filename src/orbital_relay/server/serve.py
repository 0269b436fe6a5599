"""Serves one server: uvicorn, the sockets that listen, and the signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import uvicorn

from orbital_relay.config import Settings
from orbital_relay.errors import SettingsInvalid
from orbital_relay.server.app import Node, open_node
from orbital_relay.server.edge.budget import ConnectionBudget, of_descriptors
from orbital_relay.server.edge.http_protocol import HttpLine
from orbital_relay.server.edge.upgrade import websocket_protocol
from orbital_relay.server.http import build_app
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.server.sessions.greeting import MAX_FRAME_BYTES

log = logging.getLogger("orbital.server")


class _Server(uvicorn.Server):
    """uvicorn, but for its signals: a stop drains first, and the process ends with status 0."""

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, and say so."""
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


async def serve(
    settings: Settings, *, on_started: Callable[[Node, str, int], None], siblings: Siblings | None = None
) -> None:
    """
    Serve until SIGTERM or SIGINT, then drain. A second signal ends it at once.

    Args:
        settings: All of them.
        on_started: Called when the port is open, with the address and the port.
        siblings: The workers beside this one, if it is one of several.

    Raises:
        SettingsInvalid: If a setting cannot be used, or the port is taken.
        DatabaseRefused: If the database cannot be opened.
    """
    listening = listen(settings)
    try:
        async with open_node(settings, siblings=siblings) as node:
            server = _Server(
                uvicorn.Config(
                    build_app(node.context),
                    # uvicorn asks for a class.
                    http=type("BudgetedLine", (HttpLine,), {"budget": _budget(settings)}),
                    ws=websocket_protocol(
                        node.handshakes,
                        registry=node.writers,
                        max_message_bytes=MAX_FRAME_BYTES,
                        deflate=settings.deflate,
                    ),
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_keep_alive=65,
                    timeout_graceful_shutdown=max(1, round(settings.drain_s)),
                    backlog=4096,
                ),
                on_started=lambda: on_started(node, host_of(listening[0]), listening[0].getsockname()[1]),
            )
            with _signals(node, server):
                # What is alive now stays alive: the collector need not walk through it again and again.
                gc.collect()
                gc.freeze()
                # By default the collector walks through all connections again and again while their number grows: 0.3 s
                # each time with ten thousand of them, in which nobody is served. Connections leave no rings behind, so
                # young objects alone are looked through (some 10 ms), and all of them once in a long while.
                gc.set_threshold(10_000, 10, 1_000)
                await server.serve(sockets=listening)
    finally:
        for one in listening:
            one.close()


def _budget(settings: Settings) -> ConnectionBudget:
    def trusted(address: str) -> bool:
        try:
            place = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(place in network for network in settings.trusted_proxies)

    limit = 1024
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - POSIX

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return of_descriptors(limit, exempt=trusted)


def listen(settings: Settings) -> list[socket.socket]:
    """
    Bind the port at every address that the host has; several workers share it.

    `localhost` is 127.0.0.1 and ::1, whatever the machine's table of hosts says (RFC 6761 §6.3): browsers ask no
    resolver for it, and many tables name it for one family alone.

    Raises:
        SettingsInvalid: If it is taken, or the machine has none of the addresses.
    """
    made: list[socket.socket] = []
    try:
        found = [
            one
            for host in (("127.0.0.1", "::1") if settings.host.lower() == "localhost" else (settings.host,))
            for one in socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ]
        # 127.0.0.1 first: it is the address that is shown, and the one whose port the others take.
        places = sorted(dict.fromkeys((family, place) for family, _, _, _, place in found), key=lambda one: one[0])
        for family, place in places:
            try:
                made.append(_bind(settings, family, place, made))
            except OSError as exc:
                # A name may have an address of a family that this machine does not have, as ::1 in a container.
                if exc.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} or (place == places[-1][1] and not made):
                    raise
    except OSError as exc:
        for listening in made:
            listening.close()
        raise SettingsInvalid(
            f"Port {settings.port} of {settings.host} cannot be used: {exc.strerror}. "
            "Choose another with --port, or an address of this machine with --host."
        ) from exc
    return made


def host_of(listening: socket.socket) -> str:
    """Return the address that a socket is bound to; a link-local one with its zone, `fe80::1%eth0` (RFC 4007 §11)."""
    host, _, *more = listening.getsockname()
    return f"{host}%{socket.if_indextoname(more[1])}" if more and more[1] else str(host)


def _bind(settings: Settings, family: int, place: tuple[Any, ...], made: list[socket.socket]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.workers > 1:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if made and family == socket.AF_INET6:
            # IPv4 has a socket of its own here.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        port = made[0].getsockname()[1] if made else place[1]
        listening.bind((place[0], port, *place[2:]))
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _signals(node: Node, server: uvicorn.Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        # One deadline for all of it; a quarter of the time is left for the sockets.
        drain_s = node.settings.drain_s
        until_s = loop.time() + drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s * 0.75):
                node.lifecycle.draining = True
                # Requests that were under way have their answers before any socket is closed.
                while server.server_state.tasks:
                    await asyncio.wait(list(server.server_state.tasks))
        await node.drain(patience_s=max(0.0, until_s - loop.time()))
        # uvicorn waits on top for what is left; then it cancels.
        server.config.timeout_graceful_shutdown = max(1, math.floor(until_s - loop.time()))
        server.should_exit = True

    def on_signal() -> None:
        if stopping:
            server.should_exit = server.force_exit = True
            return
        stopping.append(loop.create_task(stop(), name="stop"))

    handlers: dict[signal.Signals, Callable[[], None]] = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = _note_hangup
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        if hasattr(signal, "SIGHUP"):
            # The parts are yet to be closed.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _note_hangup() -> None:
    # Left alone it would end the process without a drain; logrotate and a closed terminal send it.
    log.info("SIGHUP changes nothing: settings are read at the start; SIGTERM stops the server")
