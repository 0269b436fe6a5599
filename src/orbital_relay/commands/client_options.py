"""Options of the subcommands that act as clients: the server's address, a token, and error messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from orbital_relay.client.errors import ClientError
from orbital_relay.commands.terminal import shown

F = TypeVar("F", bound=Callable[..., Any])

URL = click.option(
    "--url",
    envvar="ORBITAL_URL",
    default="http://localhost:3000",
    show_default=True,
    show_envvar=True,
    help="The server's address.",
)
TOKEN = click.option(
    "--token",
    envvar="ORBITAL_TOKEN",
    show_envvar=True,
    required=True,
    help="Your access token. Other users of the machine can read a command line: set it in the environment.",
)


def server_options(command: F) -> F:
    """Give a command `--url` and `--token`."""
    return URL(TOKEN(command))


def run(work: Coroutine[Any, Any, None]) -> None:
    """
    Run a command's work; what goes wrong outside of it becomes a sentence and status 1.

    Raises:
        click.ClickException: For an error of the client's.
        click.Abort: For Ctrl-C.
    """
    # The command prints what there is to say itself.
    logging.getLogger("orbital.client").addHandler(logging.NullHandler())
    try:
        asyncio.run(work)
    except ClientError as exc:
        raise click.ClickException(shown(str(exc))) from exc
    except ValueError as exc:
        raise click.UsageError(shown(str(exc))) from exc
    except KeyboardInterrupt:
        raise click.Abort from None
