"""
Print on a terminal, with control characters escaped.

A user name, an error message of a server or a close reason may contain escape sequences: on a terminal they would set
its title, clear its screen or forge a line. Commands print only through `say`, `say_json` and `say_table`: they escape.
"""

from __future__ import annotations

import io
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from rich.table import Table

_UNSAFE: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Control characters, marks that reorder or hide text, and unassigned code points (Unicode, General_Category)."""

_JOINERS: Final = {"\u200c", "\u200d"}
"""Needed inside words of Persian and of Indic scripts, and inside emoji."""


def shown(text: str) -> str:
    """Return the text with each character that a terminal would act on replaced by an escape, such as `\\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char in _JOINERS or unicodedata.category(char) not in _UNSAFE
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def shown_json(text: str) -> str:
    """Return a JSON text for a terminal: the same value, with those characters as JSON escapes (RFC 8259 §7)."""
    return "".join(
        char
        if char in _JOINERS or unicodedata.category(char) not in _UNSAFE
        else "".join(f"\\u{unit:04x}" for unit in memoryview(char.encode("utf-16-le", "surrogatepass")).cast("H"))
        for char in text
    )


def shown_lines(text: str) -> str:
    """Return a text of several lines, each escaped as by `shown`."""
    return "\n".join(shown(line) for line in text.split("\n"))


def say(text: str, *, err: bool = False) -> None:
    """Print a line that may contain text of others; a line feed in it is escaped, too."""
    click.echo(shown(text), err=err)


def say_json(text: str) -> None:
    """Print a line of JSON: byte for byte into a file or a pipe, with escapes on a terminal."""
    click.echo(shown_json(text) if sys.stdout is not None and sys.stdout.isatty() else text)


def say_table(table: Table) -> None:
    """Print a table; each of its lines is escaped."""
    from rich.console import Console  # noqa: PLC0415 - most commands print no table

    console = Console(file=io.StringIO(), width=shutil.get_terminal_size((120, 24)).columns, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo(shown_lines(captured.get().rstrip("\n")))
