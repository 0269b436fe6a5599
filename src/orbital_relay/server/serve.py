"""Run one server: uvicorn, listening sockets, signals (SIGTERM, SIGHUP), graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import uvicorn

from orbital_relay.config import Settings
from orbital_relay.server.app import Node, open_node
from orbital_relay.server.edge.budget import ConnectionBudget, of_descriptors
from orbital_relay.server.edge.http_protocol import HttpConnection
from orbital_relay.server.edge.listening import ListenAddress, Listeners, open_listeners
from orbital_relay.server.edge.redirect import Redirect
from orbital_relay.server.edge.tls import HANDSHAKE_S, Certificate
from orbital_relay.server.edge.upgrade import websocket_protocol
from orbital_relay.server.http import build_app
from orbital_relay.server.ops.allocator import bound_allocator
from orbital_relay.server.ops.first_account import warn_of_strangers
from orbital_relay.server.ops.systemd import Notifier
from orbital_relay.server.ops.task_dump import dump_tasks
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.server.sessions.greeting import MAX_FRAME_BYTES

log = logging.getLogger("orbital.server")


BACKLOG: Final = 4096
"""Connections that wait to be accepted: so many clients come back at once after a restart."""


class _Server(uvicorn.Server):
    """uvicorn, but for its sockets and signals: TLS, a redirecting port, and a stop that drains first."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        redirect: uvicorn.Config,
        listeners: Listeners,
        certificate: Certificate | None,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._redirect = redirect
        self._listeners = listeners
        self._certificate = certificate
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Open the ports, and say so."""
        self._redirect.load()
        certificate = self._certificate
        self.servers = [
            *[await self._open(one, self.config, certificate) for one in self._listeners.serving],
            *[await self._open(one, self._redirect, None) for one in self._listeners.redirecting],
        ]
        self.started = True
        self._on_started()

    async def _open(
        self, listening: socket.socket, config: uvicorn.Config, certificate: Certificate | None
    ) -> asyncio.Server:
        protocol: Any = config.http_protocol_class
        loop = asyncio.get_running_loop()
        create: Any = loop.create_unix_server if listening.family == socket.AF_UNIX else loop.create_server
        tls = {} if certificate is None else {"ssl": certificate.context, "ssl_handshake_timeout": HANDSHAKE_S}
        opened: asyncio.Server = await create(
            lambda: protocol(config=config, server_state=self.server_state, app_state={}),
            sock=listening,
            backlog=BACKLOG,
            **tls,
        )
        return opened

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


async def serve(
    settings: Settings,
    *,
    on_started: Callable[[Node, ListenAddress], None],
    given: Listeners | None = None,
    siblings: Siblings | None = None,
    notifier: Notifier | None = None,
) -> None:
    """
    Serve until SIGTERM or SIGINT, then drain. A second signal ends it at once.

    SIGHUP reads the certificate and opens the log file again; SIGUSR1 logs what every task waits for.

    Args:
        settings: All of them.
        on_started: Called when the port is open, with its address.
        given: Sockets that are open already, such as systemd's; else those of the settings are opened.
        siblings: The workers beside this one, if it is one of several.
        notifier: Where the service manager listens.

    Raises:
        SettingsInvalid: If a setting cannot be used, or the port is taken.
        DatabaseRefused: If the database cannot be opened.
    """
    bound_allocator()
    notifier = notifier or Notifier()
    certificate = Certificate.of(settings)
    listeners = open_listeners(settings, given)
    address = listeners.address(tls=certificate is not None)
    try:
        settings = listeners.settings(settings)
        # uvicorn asks for a class.
        line = type("BudgetedConnection", (HttpConnection,), {"budget": _budget(settings)})
        async with open_node(settings, siblings=siblings) as node:
            # One of several workers says it for all.
            if siblings is None or siblings.number == 1:
                await warn_of_strangers(settings, node.store)

            def started() -> None:
                on_started(node, address)
                notifier.ready(address.url)

            server = _Server(
                _config(
                    settings,
                    build_app(node.context),
                    line,
                    websocket_protocol(
                        node.handshakes,
                        registry=node.writers,
                        max_message_bytes=MAX_FRAME_BYTES,
                        deflate=settings.deflate,
                    ),
                ),
                redirect=_config(settings, Redirect(port=address.port, public_url=settings.public_url), line, "none"),
                listeners=listeners,
                certificate=certificate,
                on_started=started,
            )
            beating = asyncio.create_task(notifier.beat(), name="watchdog")
            with _signals(node, server, notifier, address, certificate):
                # What is alive now stays alive: the collector need not walk through it again and again.
                gc.collect()
                gc.freeze()
                # By default the collector walks through all connections again and again while their number grows: 0.3 s
                # each time with ten thousand of them, in which nobody is served. Connections leave no rings behind, so
                # young objects alone are looked through (some 10 ms), and all of them once in a long while.
                gc.set_threshold(10_000, 10, 1_000)
                await server.serve()
            beating.cancel()
    finally:
        listeners.close()


def _config(settings: Settings, app: Any, line: type[HttpConnection], websocket: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's
    return uvicorn.Config(
        app,
        http=line,
        ws=websocket,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )


def _budget(settings: Settings) -> ConnectionBudget:
    def trusted(address: str) -> bool:
        if not address:
            # A Unix socket: only a proxy connects there.
            return True
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


@contextlib.contextmanager
def _signals(
    node: Node, server: uvicorn.Server, notifier: Notifier, address: ListenAddress, certificate: Certificate | None
) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        notifier.stopping()
        # One deadline for all of it; a quarter of the time is left for the sockets.
        drain_s = node.settings.drain_s
        until_s = loop.time() + drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s * 0.75):
                node.lifecycle.draining = True
                # Requests that were in progress have their answers before any socket is closed.
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

    def on_hangup() -> None:
        # The commands configure the log; a server that others embed writes none, and loads nothing for it.
        from orbital_relay.server.ops.logging import reopen  # noqa: PLC0415

        has_file = reopen()
        if certificate is None and not has_file:
            # Left alone it would end the process without a drain; logrotate and a closed terminal send it.
            log.info("SIGHUP changes nothing: settings are read at the start; SIGTERM stops the server")
            return
        notifier.reloading()
        if certificate is not None:
            certificate.reload()
        notifier.ready(address.url)

    handlers: dict[signal.Signals, Callable[[], None]] = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = on_hangup
        handlers[signal.SIGUSR1] = dump_tasks
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
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
