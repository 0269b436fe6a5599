"""Options of the subcommands that work on the server's own data: its settings, and error messages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from orbital_relay import config
from orbital_relay.commands.terminal import say
from orbital_relay.config import Option, Settings, SqliteFile
from orbital_relay.errors import DatabaseRefused, OrbitalError, SettingsInvalid

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def settings_options(*fields: str) -> Callable[[F], F]:
    """
    Give a command an option for each of these settings, or for all if none is named; it gets their texts by name.

    It also gets `--config`, as `config_file`; `load` reads both.
    """
    chosen = config.options(*fields) if fields else config.OPTIONS

    def decorate(command: F) -> F:
        for option in reversed(chosen):
            command = _flag(option)(command)
        return click.option(
            "--config",
            "config_file",
            metavar="FILE",
            help="Read settings from a TOML file; options and the environment override it. "
            f"[env: {config.CONFIG_ENV}; default: none]",
        )(command)

    return decorate


def _flag(option: Option) -> Callable[[F], F]:
    return click.option(option.flag, option.field, metavar=option.kind.metavar, default=None, help=option.help)


def load(flags: dict[str, str | None]) -> Settings:
    """
    Read the settings.

    Raises:
        click.ClickException: If one cannot be used.
    """
    # What a command writes for a server, such as a new database or a backup, is for its owner alone.
    os.umask(0o077)
    try:
        return config.load(flags, file=flags.get("config_file"))
    except SettingsInvalid as exc:
        raise click.ClickException(str(exc)) from exc


def load_existing(flags: dict[str, str | None]) -> Settings:
    """
    Read the settings of a command that uses a database and never creates one, and name the database on standard error.

    A mistyped folder must not become a new, empty database.

    Raises:
        click.ClickException: If a setting cannot be used, or the database is a file that does not exist.
    """
    settings = load(flags)
    match settings.database:
        case SqliteFile(path=path) if not path.exists():
            raise click.ClickException(
                f"There is no database at {path.absolute()}. Name its folder with --data-dir, or its address with "
                "DATABASE_URL; `orbital migrate` makes a new one."
            )
    name_database(settings)
    return settings


def name_database(settings: Settings) -> None:
    """Print on standard error which database a command uses; passwords are left out."""
    database = settings.database
    say(f"Database: {database.path.absolute() if isinstance(database, SqliteFile) else database.shown}", err=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    Run a command's work; an error of the database or the settings becomes a sentence and status 1.

    Raises:
        click.ClickException: For an error that has a sentence.
        click.Abort: For Ctrl-C.
    """
    try:
        return asyncio.run(work)
    except (SettingsInvalid, DatabaseRefused) as exc:
        raise click.ClickException(str(exc)) from exc
    except OrbitalError as exc:
        raise click.ClickException(exc.message) from exc
    except KeyboardInterrupt:
        raise click.Abort from None
