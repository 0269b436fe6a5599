"""The command `orbital`: the table of its subcommands; each is a module of commands/, imported when it is used."""

from __future__ import annotations

import os
import signal
import sys

try:
    from importlib import import_module
    from typing import Any, Final

    import click
except KeyboardInterrupt:  # Ctrl-C during the imports: end without a traceback.
    raise SystemExit(1) from None

from orbital_relay import __version__
from orbital_relay.commands.terminal import say, shown_lines

COMMANDS: Final = {
    "serve": "Serve HTTP and WebSocket.",
    "user": "Add, invite, list, disable and delete users.",
    "group": "List groups and what they store, and delete them.",
    "token": "Create a token for a user.",
    "tail": "Print a group's events as they arrive.",
    "send": "Post a message to a group.",
    "media": "Send and fetch encrypted files.",
    "health": "Ask a running server whether it is alive.",
    "config": "Show the settings in effect, and where each is set.",
    "doctor": "Diagnose a server and the network path to it.",
    "status": "Show live statistics of running servers.",
    "migrate": "Bring the database to this version's schema.",
    "check": "Verify the log: numbers, chain, rows.",
    "verify": "Verify an audit file of an encrypted group.",
    "clock": "Show or accept the servers' clock.",
    "backup": "Write the whole database to a file.",
    "restore": "Restore a backup into an empty database.",
    "vacuum": "Shrink the database's file.",
    "completion": "Print the completion script of a shell.",
    "man": "Print the manual page.",
}
"""Name and line of help of each subcommand; `--help` shows them without loading anything."""


class _Lazy(click.Group):
    """A group whose subcommands are imported when used, so that `--help` is instant and the SDK alone suffices."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the command; report an operating system error (file, folder, terminal) in a sentence."""
        try:
            return super().main(*args, **kwargs)
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.split(".")[0] == "orbital_relay":
                raise
            # The SDK can be installed without the server's dependencies.
            say(
                f"Error: This needs the server's parts, and {exc.name} is not installed: "
                "pip install 'orbital-relay[server]'",
                err=True,
            )
            sys.exit(1)
        except OSError as exc:
            what = f"{exc.filename}: " if exc.filename else ""
            say(f"Error: {what}{exc.strerror or exc}.", err=True)
            if sys.stdout is not None:
                # Flushing the rest to a full disk or a lost terminal at exit would fail again, with a traceback.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the subcommand; an error message may quote text of others, and is escaped before click prints it."""
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            vars(exc)["message"] = shown_lines(exc.message)  # click declares it final
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "serve" and hasattr(signal, "SIGHUP"):
            # The imports take a second, in which these signals would end the process; `serve` handles them later.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        module = import_module(f"orbital_relay.commands.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the table of subcommands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  orbital serve                          serve http://localhost:3000
  orbital user add ada                   create an account; asks for a password
  export ORBITAL_TOKEN=$(orbital token ada)
  orbital tail GROUP                     watch a group
  orbital COMMAND --help                 help for one command
""",
)
@click.version_option(__version__, prog_name="orbital")
def main() -> None:
    """Relay end-to-end encrypted messages to families and other small groups."""
