"""`orbital doctor`: diagnose a server and its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import msgspec

from orbital_relay.commands.server_options import load, run, settings_options
from orbital_relay.commands.terminal import say, say_json
from orbital_relay.config import Settings
from orbital_relay.server.doctor.finding import Finding
from orbital_relay.server.doctor.local import check_descriptors, check_disk, check_files, check_settings
from orbital_relay.server.doctor.outside import PublicAddress, check_outside
from orbital_relay.server.doctor.stores import check_database, check_redis

_MARKS: Final = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(
    epilog="""\b
Examples:
  orbital doctor
  orbital doctor --config /etc/orbital/orbital.toml
  orbital doctor --url https://talk.example.org
  ORBITAL_TOKEN=$(orbital token ada) orbital doctor --url https://talk.example.org --json
"""
)
@click.option("--url", metavar="URL", help="The public address to check from here. [default: ORBITAL_PUBLIC_URL]")
@click.option("--token", envvar="ORBITAL_TOKEN", metavar="TOKEN", help="A user's token: also measure idle connections.")
@click.option(
    "--cafile", type=click.Path(path_type=Path), metavar="FILE", help="Certificates of a private CA to trust."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for programs.")
@settings_options()
def doctor(*, url: str | None, token: str | None, cafile: Path | None, as_json: bool, **flags: str | None) -> None:
    """
    Check settings, files, disk, database, Redis, clock, limits, and the network path to the server.

    Run it on the server's machine, as its user and with its settings; it changes nothing. With --url, or with
    ORBITAL_PUBLIC_URL, it also looks at TLS and the proxy as a client does. Status 1 if there is a problem.
    """
    settings = load(flags)
    found = run(_look(settings))
    public = (url or settings.public_url or "").rstrip("/")
    if public:
        found += check_outside(PublicAddress(public, cafile), chunk_bytes=settings.media_chunk_bytes, token=token)
    if as_json:
        say_json(msgspec.json.encode(found).decode())
    else:
        for each in found:
            say(f"{_MARKS[each.level]}  {each.check:<8}  {each.text}")
            if each.remedy:
                say(f"{'':19}-> {each.remedy}")
    problems = sum(each.level == "problem" for each in found)
    notes = sum(each.level == "note" for each in found)
    say(f"{problems} problems, {notes} notes.", err=True)
    if problems:
        raise click.exceptions.Exit(1)


async def _look(settings: Settings) -> list[Finding]:
    return [
        *check_settings(settings),
        *check_files(settings),
        *check_disk(settings),
        *check_descriptors(),
        *await check_database(settings),
        *await check_redis(settings.redis_url),
    ]
