"""`orbital status`: live statistics of running servers, on a terminal or once as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import click
from rich.live import Live

from orbital_relay.commands.server_options import load, settings_options
from orbital_relay.commands.status_view import Sample, fetch, rates, table
from orbital_relay.commands.terminal import say_json, say_table


@click.command(
    epilog="""\b
Examples:
  orbital status                         the server of these settings, live until Ctrl-C
  orbital status --url http://10.0.0.1:3000 --url http://10.0.0.2:3000
  orbital status --once --json           two samples a second apart, for programs
"""
)
@click.option(
    "--url",
    "urls",
    multiple=True,
    metavar="URL",
    help="A server's own address; repeat it for each server of a cluster.",
)
@click.option("--every", type=click.FloatRange(0.2, 3600), help="Seconds between samples; 2, or 1 with --once.")
@click.option("--once", is_flag=True, help="Take two samples, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each sample, for programs.")
@settings_options("host", "port")
def status(*, urls: tuple[str, ...], every: float | None, once: bool, as_json: bool, **flags: str | None) -> None:
    """
    Show what running servers do: connections, groups, rates, lag, batches, refusals, disk, errors.

    It reads `/metrics` of each server; with --workers one address shows all workers of the machine. The exit
    status is 1 if a server never answers with --once.
    """
    settings = load(flags)
    host = "localhost" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    places = [url.rstrip("/") for url in urls] or [f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"]
    every_s = every or (1.0 if once else 2.0)
    before = _look(places)
    try:
        if once or as_json:
            while True:
                time.sleep(every_s)
                after = _look(places)
                _print(before, after, as_json=as_json)
                before = after
                if once:
                    break
        else:
            _watch(places, before, every_s)
    except KeyboardInterrupt:
        return
    if not all(sample.answered for sample in before.values()):
        raise click.exceptions.Exit(1)


def _look(places: Iterable[str]) -> dict[str, Sample]:
    return {place: fetch(place) for place in places}


def _print(before: dict[str, Sample], after: dict[str, Sample], *, as_json: bool) -> None:
    if as_json:
        say_json(json.dumps({place: rates(before[place], after[place]) for place in after}))
    else:
        say_table(table(before, after))


def _watch(places: list[str], before: dict[str, Sample], every_s: float) -> None:
    with Live(table(before, before), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            after = _look(places)
            live.update(table(before, after), refresh=True)
            before = after
