"""`orbital completion`: print the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from orbital_relay.commands.terminal import say

_VARIABLE = "_ORBITAL_COMPLETE"
"""By this variable the shell's function asks `orbital` for words; click names it after the program."""


@click.command(
    epilog="""\b
Examples:
  orbital completion bash > /etc/bash_completion.d/orbital
  orbital completion zsh > "${fpath[1]}/_orbital"
  orbital completion fish > ~/.config/fish/completions/orbital.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL."""
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(f"click completes in {shell}")
    for line in found(ctx.find_root().command, {}, "orbital", _VARIABLE).source().strip().splitlines():
        say(line)
