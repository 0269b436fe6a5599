"""
The parts of the documents that are generated: `python -m tests.docs.pages` writes them, tests hold them current.

    tests/RULES.md                      every rule that a test carries: what it claims, and where
    docs/reference/command-line.md      every `--help`
    docs/reference/protocol/errors.md   the table of errors in it
    docs/reference/source-index.md      constants, endpoints, errors, settings and files of the source
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from tests.docs import rules, source_index
from tests.support.programs import CHECKOUT

COMMAND = "python -m tests.docs.pages"

# Chapter: errors


def errors_table() -> str:
    """Return the table of errors, from the classes."""
    from orbital_relay import errors

    found: dict[str, tuple[int, int | None, bool, str]] = {}

    def walk(kind: type[errors.OrbitalError]) -> None:
        for sub in kind.__subclasses__():
            if not sub.__name__.startswith("_") and "code" in vars(sub):
                when = (sub.__doc__ or "").strip().splitlines()[0]
                # Several classes may share a code; the first one declares it.
                found.setdefault(sub.code, (sub.status, sub.close, sub.retryable, when))
            walk(sub)

    walk(errors.OrbitalError)
    lines = ["| status | code | when | again? |", "| --- | --- | --- | --- |"]
    for code, (status, _close, retryable, when) in sorted(found.items(), key=lambda item: (item[1][0], item[0])):
        lines.append(f"| {status} | `{code}` | {when} | {'after `Retry-After`' if retryable else 'no'} |")
    lines.append("| 500 | `INTERNAL` | An unexpected error of the server; its log has the traceback. | perhaps |")
    return "\n".join(lines)


def errors_page(page: str) -> str:
    """Return the page of errors with the table as the classes are now."""
    made = re.compile(r"(<!-- errors: [^\n]*-->\n).*?(<!-- end of errors -->)", re.DOTALL)
    found = made.search(page)
    assert found is not None, "the page has lost the place of its table of errors"
    return page[: found.start()] + found[1] + "\n" + errors_table() + "\n\n" + found[2] + page[found.end() :]


# Chapter: the command line


def command_line_page() -> str:
    """Return the text of docs/reference/command-line.md, from every `--help`."""
    import click

    from orbital_relay.cli import main

    lines = [
        "# The command line",
        "",
        f"<!-- Made by `{COMMAND}` from every command's `--help`. -->",
        "",
        "`orbital` runs a server, and administers its data.",
        "`tail`, `send` and `media` are clients: they need only an address and a token, and no part of the server.",
        "",
    ]

    def describe(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(
            command,
            info_name=name,
            parent=parent,
            terminal_width=100,
            max_content_width=100,
            help_option_names=["-h", "--help"],
        )
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        lines.extend([f"## {context.command_path}", "", "```text", text, "```", ""])
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                assert found is not None
                describe(found, sub, context)

    describe(main, "orbital", None)
    return "\n".join(lines)


PAGES: dict[str, Callable[[str], str]] = {
    rules.INDEX: lambda _now: rules.rules_page(),
    "docs/reference/command-line.md": lambda _now: command_line_page(),
    "docs/reference/protocol/errors.md": errors_page,
    source_index.PAGE: lambda _now: source_index.index_page(),
}
"""The function that makes each page, given its present text."""


def main() -> None:
    """Write every page that has changed."""
    for name, make in PAGES.items():
        path = CHECKOUT / name
        now = path.read_text("utf-8") if path.exists() else ""
        made = make(now)
        if made != now:
            path.write_text(made, "utf-8")
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
