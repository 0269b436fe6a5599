"""`orbital man`: print the manual page, made from the help of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from orbital_relay import __version__
from orbital_relay.commands.terminal import say


@click.command(
    epilog="""\b
Examples:
  orbital man | man --local-file -
  orbital man > /usr/local/share/man/man1/orbital.1
"""
)
@click.pass_context
def man(ctx: click.Context) -> None:
    """Print the manual page of all commands, in the format of the program man."""
    root = ctx.find_root()
    for line in _page(root):
        say(line)


def _page(root: click.Context) -> Iterator[str]:
    yield f'.TH ORBITAL 1 "" "Orbital {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"orbital \\- {_text(root.command.get_short_help_str(limit=200))}"
    yield ".SH SYNOPSIS"
    yield "\\fBorbital\\fR COMMAND [OPTIONS] [ARGUMENTS]"
    yield ".SH COMMANDS"
    yield from _commands(root)
    yield ".SH ENVIRONMENT"
    yield "Each setting names its variable in brackets."
    yield ".SH EXIT STATUS"
    yield "0 after success, 1 after an error that is printed, 2 after a mistake in the command line."
    yield "\\fBorbital check\\fR has 3 too: only bytes of media are missing."


def _commands(parent: click.Context) -> Iterator[str]:
    """Write each command below a group, and those below it."""
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None:
            continue
        ctx = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from _commands(ctx)
            continue
        yield f".SS {_text(ctx.command_path)} {_text(' '.join(command.collect_usage_pieces(ctx)))}"
        for paragraph in cleandoc(command.help or "").split("\n\n"):
            yield ".PP"
            yield _text(" ".join(paragraph.split()))
        for parameter in command.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                yield ".TP"
                yield f"\\fB{_text(record[0])}\\fR"
                # An argument has no help of its own: the command's paragraphs explain it.
                yield _text(" ".join(record[1].split())) or "\\&"
        for line in cleandoc(command.epilog or "").removeprefix("\b").strip().splitlines():
            yield ".br" if line.startswith(" ") else ".PP"
            yield _text(line.strip("\b")) or "\\&"


def _text(text: str) -> str:
    """Escape what roff takes for a request: backslashes, hyphens, and a dot or an apostrophe that begins a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.lstrip().startswith((".", "'")) else escaped
