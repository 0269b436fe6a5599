"""`orbital serve`: run a server until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import webbrowser
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from orbital_relay import __version__, config
from orbital_relay.commands.server_options import load, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.errors import DatabaseRefused, SettingsInvalid
from orbital_relay.server.app import Node
from orbital_relay.server.edge.listening import ListenAddress, Listeners, inherited, open_listeners
from orbital_relay.server.edge.tls import Certificate
from orbital_relay.server.ops import supervisor
from orbital_relay.server.ops.logging import configure, is_text
from orbital_relay.server.ops.systemd import Notifier
from orbital_relay.server.ops.worker_metrics import Siblings
from orbital_relay.server.serve import serve as serve_until_stopped

log = logging.getLogger("orbital.server")


@click.command(
    epilog="""\b
Examples:
  orbital serve
  orbital serve --demo
  orbital serve --host 0.0.0.0 --port 8080 --data-dir /var/lib/orbital
  orbital serve --host :: --port 443 --redirect-port 80 --tls-cert fullchain.pem --tls-key privkey.pem
  orbital serve --uds /run/orbital/orbital.sock
  orbital serve --database-url postgresql://orbital@db/orbital --redis-url redis://cache
  orbital serve --database-url postgresql://orbital@db/orbital --redis-url redis://cache --workers 4

Each flag can be given by its environment variable; the documentation's page Settings has the reasons.
"""
)
@click.option(
    "--demo", is_flag=True, help="Show two members side by side in a browser; all data is deleted at the end."
)
@settings_options()
def serve(*, demo: bool, **flags: str | None) -> None:
    """Serve HTTP and WebSocket on one port until SIGTERM or Ctrl-C."""
    if sys.platform == "win32":
        raise click.ClickException("The server does not run on Windows; it does on Linux, on macOS, and in WSL.")
    settings = load(flags)
    try:
        _configure_log(settings)
        if demo:
            with (
                tempfile.TemporaryDirectory(prefix="orbital-demo-") as folder,
                asyncio.Runner(loop_factory=_loop) as runner,
            ):
                runner.run(serve_until_stopped(_throwaway(settings, Path(folder)), on_started=_show_demo))
            return
        variables = config.take_service_variables()
        notifier = Notifier.of(variables)
        given = inherited(variables, tls=settings.tls_cert is not None)
        if settings.workers > 1:
            status = _serve_by_many(settings, given, notifier)
            log.info("stopped", extra={"status": status})
            sys.exit(status)
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(
                serve_until_stopped(
                    settings,
                    on_started=lambda node, address: _greet(node.settings, address),
                    given=given,
                    notifier=notifier,
                )
            )
        log.info("stopped", extra={"status": 0})
    except (SettingsInvalid, DatabaseRefused) as exc:
        raise click.ClickException(str(exc)) from exc


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - there is none for Windows, where this command refuses

    return uvloop.new_event_loop()


def _throwaway(settings: Settings, folder: Path) -> Settings:
    """Return the settings of one process whose data are all in `folder`, whatever else was set."""
    return msgspec.structs.replace(
        settings,
        data_dir=folder,
        database_url=None,
        redis_url=None,
        media_url=None,
        workers=1,
        uds=None,
        # The page makes the two members.
        signups="open",
    )


def _show_demo(_node: Node, address: ListenAddress) -> None:
    """Open the demonstration, in which the page makes the two members: their keys are none of the server's business."""
    url = f"{address.url}/?demo=now"
    say("Orbital shows two members side by side. Nothing is saved; stop with Ctrl-C.")
    say(f"  Open it in a browser: {url}")
    if sys.stdout.isatty():
        webbrowser.open(url)


def _serve_by_many(settings: Settings, given: Listeners | None, notifier: Notifier) -> int:
    """Start the workers, and return their status when they have ended."""
    supervisor.check(settings)
    certificate = Certificate.of(settings)
    listeners = open_listeners(settings, given)
    try:
        address = listeners.address(tls=certificate is not None)
        many = supervisor.Workers(settings, work=_work, listeners=listeners, notifier=notifier, shown=address.url)
        return many.run(on_started=lambda placed: _greet(placed, address))
    finally:
        listeners.close()


def _work(
    settings: Settings, report: Connection, siblings: Siblings, given: Listeners | None, beat_s: float | None
) -> None:
    """Serve as one of several workers, until SIGTERM or until the parent process ends."""
    # The terminal's Ctrl-C is for the one that started this one, which passes it on.
    os.setpgrp()
    _configure_log(settings)

    def report_started(_node: Node, _place: ListenAddress) -> None:
        loop = asyncio.get_running_loop()

        def beat() -> None:
            with suppress(OSError):  # the parent process has ended; see below
                report.send(True)
            if beat_s is not None:
                loop.call_later(beat_s, beat)

        beat()
        parent = multiprocessing.parent_process()
        if parent is not None:
            loop.add_reader(parent.sentinel, _orphaned, parent.sentinel)

    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(serve_until_stopped(settings, on_started=report_started, given=given, siblings=siblings))
    except (SettingsInvalid, DatabaseRefused) as exc:
        say(f"Error: {exc}", err=True)
        sys.exit(1)


def _orphaned(sentinel: int) -> None:
    asyncio.get_running_loop().remove_reader(sentinel)
    os.kill(os.getpid(), signal.SIGTERM)


def _configure_log(settings: Settings) -> None:
    configure(
        level=settings.log_level,
        format=settings.log_format,
        file=settings.log_file,
        addresses=settings.log_addresses,
    )


def _greet(settings: Settings, address: ListenAddress) -> None:
    """Log the start; print the server's address and the first steps, unless the log is for programs."""
    log.info(
        "serving",
        extra={"url": address.url, "version": __version__, "database": _place(settings), "workers": settings.workers},
    )
    doubts = config.doubts(settings)
    if not is_text(settings.log_format):
        for sentence in doubts:
            log.warning("a setting is probably not meant", extra={"reason": sentence})
        return
    say(f"Orbital is serving {address.url}")
    url = address.url if address.uds is None else settings.public_url or "http://localhost"
    if address.uds is None or settings.public_url is not None:
        say(f"  Open it in a browser: {url}")
        say(f"  The API, to read:     {url}/docs")
    match settings.signup_policy(forwarded=False):
        case "open":
            say("  Make an account:")
            say(
                f"""    curl -s {url}/api/signup -H 'Content-Type: application/json' """
                """-d '{"username":"ada","password":"Correct-Horse-7","public_key":{}}'"""
            )
        case "invited":
            say("  Sign-ups need an invitation; make one:  orbital user invite")
        case "closed":
            say("  Sign-ups are closed; make an account:  orbital user add ada")
    say(f"  Data: {_place(settings)}. Stop with Ctrl-C.")
    for sentence in doubts:
        say(f"  Note: {sentence}", err=True)


def _place(settings: Settings) -> str:
    shown = settings.database.shown
    return shown.removeprefix("sqlite:///") if urlsplit(shown).scheme == "sqlite" else shown
