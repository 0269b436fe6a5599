"""`orbital config`: show the settings in effect, and where each is set."""

from __future__ import annotations

import json

import click

from orbital_relay import config as settings_of
from orbital_relay.commands.server_options import settings_options
from orbital_relay.commands.terminal import say, say_json
from orbital_relay.config import EffectiveSetting
from orbital_relay.errors import SettingsInvalid


@click.command(
    epilog="""\b
Examples:
  orbital config                         every setting, its value and its origin
  orbital config --changed               only those that are not defaults
  orbital config --config /etc/orbital/orbital.toml --json
"""
)
@click.option("--changed", is_flag=True, help="Show only the settings that were given.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for programs.")
@settings_options()
def config(*, changed: bool, as_json: bool, **flags: str | None) -> None:
    """
    Show the settings in effect, and where each is set.

    An option overrides the environment, the environment the file of --config, the file the default. Secrets are masked.
    Warnings about settings that are valid but probably a mistake go to standard error. The exit status is 1 if a
    setting is invalid.
    """
    try:
        every = settings_of.in_force(flags, file=flags.get("config_file"))
        settings = settings_of.load(flags, file=flags.get("config_file"))
    except SettingsInvalid as exc:
        raise click.ClickException(str(exc)) from exc
    shown = [each for each in every if not changed or each.source != "default"]
    if as_json:
        say_json(json.dumps([_row(each) for each in shown], ensure_ascii=False))
    else:
        names = max((len(each.option.env) for each in shown), default=0)
        values = min(40, max((len(each.shown) for each in shown), default=0))
        for each in shown:
            origin = each.source if each.source == each.place or not each.place else f"{each.source}: {each.place}"
            say(f"{each.option.env:<{names}}  {each.shown:<{values}}  {origin}")
    for sentence in settings_of.doubts(settings):
        say(f"Note: {sentence}", err=True)


def _row(each: EffectiveSetting) -> dict[str, str]:
    return {
        "name": each.option.env,
        "option": each.option.flag,
        "value": each.shown,
        "source": each.source,
        "place": each.place,
        "default": each.option.default,
    }
