"""What a command that changes users or groups prints: a sentence, or one JSON object with `--json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click
import msgspec

from orbital_relay.commands.terminal import say, say_json

Command = TypeVar("Command", bound=Callable[..., Any])

Change = Literal[
    "added", "password_set", "renamed", "disabled", "enabled", "promoted", "demoted", "revoked", "erased", "deleted"
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A change that was made.

    Attributes:
        done: The change.
        user_id: The user's id, for a user.
        username: The user's name after the change, for a user.
        group_id: The group's id, for a group.
    """

    done: Change
    user_id: str | None = None
    username: str | None = None
    group_id: str | None = None


def json_option(command: Command) -> Command:
    """Add `--json` to a command, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def report(outcome: Outcome, sentence: str, *, as_json: bool) -> None:
    """Print what was done, for a program or for a person."""
    if as_json:
        say_json(msgspec.json.encode(outcome).decode())
    else:
        say(sentence)
