"""
The parts of the documents that are made: `python -m tests.docs.pages` writes them, tests hold them current.

    docs/reference/rules.md          every rule that a test carries: what it claims, and where
    docs/reference/command-line.md   every `--help`
    docs/reference/protocol.md       the table of errors in it
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.programs import CHECKOUT

REFERENCE = CHECKOUT / "docs" / "reference"
COMMAND = "python -m tests.docs.pages"

# Chapter: rules

RULE = re.compile(r"[A-Z]+[0-9]+")
_CLAIM = re.compile(r"\[(?P<rules>[A-Z]+[0-9]+(?:,? [A-Z]+[0-9]+)*)\] *")
_JAVASCRIPT = re.compile(r"""(?:test|it)\(\s*(['"`])\[(?P<rules>[A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)*)\] (?P<claim>.*?)\1""")
_PROMISES = re.compile(r"P([1-5])")

FAMILIES = {
    "ACC": "accounts",
    "ADM": "which count an attempt to connect falls under",
    "ADR": "the client's address behind proxies",
    "ANY": "any request at all",
    "API": "Python SDK: the REST side",
    "ATT": "attempts to connect, counted",
    "AUT": "what a token says and who signed it",
    "AUTH": "tokens over HTTP",
    "BAD": "bad frames",
    "BAS": "Python SDK: its base install",
    "BCK": "when a client connects again",
    "BENCH": "the bench",
    "BLOB": "where the bytes of media are",
    "BUC": "token buckets",
    "CAL": "Python SDK: callbacks",
    "CHECK": "`orbital check`",
    "CHK": "`orbital check` and media",
    "CHN": "the hash chain",
    "CHO": "where the older description was silent",
    "CIRUN": "the run on a fresh machine",
    "CMD": "the commands of the SDK",
    "COMM": "workflows, policies and templates",
    "CONF": "what an outside tester reads in the protocol",
    "CORS": "pages of other origins",
    "CRE": "where a handshake's token stands",
    "CREATE": "the page: making a group",
    "CRY": "end-to-end encryption: cryptography",
    "DIAG": "diagrams",
    "DIST": "sdist and wheel",
    "DOC": "the API's description",
    "DOCS": "the documents",
    "DOO": "who gets in",
    "DRAFT": "the page: drafts",
    "DRAIN": "going down",
    "ERR": "errors over HTTP",
    "EVT": "events on the socket",
    "EXA": "examples of the Python SDK",
    "FMT": "end-to-end encryption: formats",
    "FORM": "the form of what is sent",
    "FRM": "Python SDK: frames",
    "GAP": "Python SDK: gaps",
    "GROUPKEY": "the page: keys of groups",
    "GRP": "groups",
    "HB": "the heartbeat",
    "HOUSE": "the house itself",
    "HTTP": "routes",
    "HUB": "the hub",
    "IDP": "an outside identity provider's one key",
    "HOLD": "the page: what people write and hold",
    "INPUT": "the page: what is typed",
    "INVITE": "the page: invitations",
    "JOIN": "invite codes",
    "JWK": "an outside identity provider's key set",
    "KEEP": "retention",
    "KEPT": "the page: what a device keeps of it",
    "KEYTEXT": "the page: keys as text",
    "LIE": "end-to-end encryption: a relay that lies",
    "LIM": "limits",
    "LIN": "Python SDK: the line",
    "LINE": "HTTP on the line",
    "LMT": "counting for limits",
    "LOG": "log lines",
    "MARK": "the page: markdown",
    "MED": "media",
    "MEDIUM": "the page: descriptions of media",
    "MEM": "end-to-end encryption: groups of devices",
    "MET": "metrics",
    "MSG": "messages",
    "ONCE": "retrying without doubling",
    "ORD": "order",
    "ORI": "origins",
    "OUT": "clients and suites that others wrote",
    "PAGES": "the documentation as a site",
    "PAIR": "client and server, joined in memory",
    "PARTS": "an installation of the SDK alone",
    "PAS": "passwords",
    "PEOPLE": "the page: members",
    "PERM": "who may see what is there",
    "PILL": "the page: words for the connection",
    "PMD": "compression of events",
    "POS": "Python SDK: positions",
    "POST": "posting by frames",
    "PROBE": "`orbital health`",
    "PROM": "the promises",
    "PROXY": "sample configurations of proxies",
    "PYCON": "Python SDK: connecting",
    "PYEVT": "Python SDK: the stream of events",
    "PYMED": "Python SDK: media",
    "PYOUT": "Python SDK: the outbox",
    "PYSUB": "Python SDK: subscriptions",
    "PYTOK": "Python SDK: tokens",
    "QUO": "room for media",
    "RATE": "too many frames",
    "READ": "the page: read positions",
    "RCV": "end-to-end encryption: the receiver's machine",
    "REC": "recovering the log",
    "REMOVE": "the page: removing a member",
    "REQ": "requests counted",
    "RETRY": "media and keys",
    "ROS": "end-to-end encryption: the roster",
    "RST": "Python SDK: the REST side of a real server",
    "RUN": "health",
    "SAFE": "end-to-end encryption: stores, licences and sizes",
    "SDK": "Python SDK: through a storm",
    "SEC": "secrets",
    "SESSION": "the page: the session",
    "SET": "settings",
    "SHELL": "the page: files that the service worker keeps",
    "SGL": "end-to-end encryption: with libsignal",
    "SIG": "Python SDK: what is no event",
    "SIM": "Python SDK: seeded disorder",
    "SND": "end-to-end encryption: the sender's machine",
    "SITE": "the files that are served",
    "SLOW": "slow readers",
    "SOCK": "the socket",
    "STAMP": "stamps",
    "STO": "Python SDK: stores",
    "SUB": "subscribing",
    "THR": "threads",
    "TIC": "tickets inside",
    "TICK": "tickets",
    "TOK": "a token's end on a connection",
    "TYP": "Python SDK: typing",
    "TYPE": "typing",
    "TYPING": "the page: who is writing",
    "UNIT": "systemd units",
    "UPLOAD": "the page: uploads",
    "USE": "use cases",
    "VEC": "end-to-end encryption: the shared vectors",
    "VER": "Python SDK: the chain checked",
    "WAIT": "the page: what waits to be sent",
    "WHEEL": "the timer of heartbeats",
    "WIN": "moving windows",
    "WS": "the edge: RFC 6455 and RFC 7692",
}
"""What each family of rules is about; a family that is not here shows without a word."""


def _split(rules: str) -> list[str]:
    return [_PROMISES.sub(r"PROM\1", rule) if _PROMISES.fullmatch(rule) else rule for rule in RULE.findall(rules)]


def _of_docstring(text: str) -> Iterator[tuple[str, str]]:
    """Yield each rule at the start of a docstring, with the claim that follows."""
    rules: list[str] = []
    while (found := _CLAIM.match(text)) is not None:
        rules += _split(found["rules"])
        text = text[found.end() :]
    claim = " ".join(text.split("\n\n")[0].split())
    for rule in rules:
        yield rule, claim


def _claims(path: Path) -> Iterator[tuple[str, str]]:
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield from _of_docstring(ast.get_docstring(node) or "")
    else:
        for found in _JAVASCRIPT.finditer(source):
            for rule in _split(found["rules"]):
                yield rule, found["claim"]


def test_files() -> list[Path]:
    """Return the files whose tests may carry rules, in order."""
    found = []
    for top in ("tests", *sorted(f"clients/{one.name}/test" for one in (CHECKOUT / "clients").iterdir()), "web"):
        for folder, inside, names in os.walk(CHECKOUT / top):
            inside[:] = sorted(name for name in inside if name != "node_modules" and not name.startswith("."))
            found += [
                Path(folder, name)
                for name in sorted(names)
                if (name.startswith("test_") and name.endswith(".py")) or name.endswith((".test.js", ".test.mjs"))
            ]
    return found


def carried() -> dict[str, dict[str, list[str]]]:
    """Return for each rule the files that carry it, with their claims."""
    rules: dict[str, dict[str, list[str]]] = {}
    for path in test_files():
        where = path.relative_to(CHECKOUT).as_posix()
        for rule, claim in _claims(path):
            rules.setdefault(rule, {}).setdefault(where, []).append(claim)
    return dict(sorted(rules.items(), key=lambda item: _place(item[0])))


def _place(rule: str) -> tuple[str, int]:
    family = rule.rstrip("0123456789")
    return family, int(rule[len(family) :])


def stated(page: str) -> set[str]:
    """Return the rules that a page states: those that stand in bold, or in bold at a sentence's start."""
    return {rule for bold in re.findall(r"\*\*([^*]+)\*\*", page) for rule in re.findall(r"^[A-Z]+[0-9]+\b", bold)}


def rules_page() -> str:
    """Make docs/reference/rules.md."""
    lines = [
        "# Index of rules",
        "",
        f"<!-- Made by `{COMMAND}` from the tests' own claims. -->",
        "",
        "Every test claims something, and its claim begins with the number of a rule.",
        "Here is every number, what is claimed in its name, and in which file.",
        "What clients and servers promise each other is told in [the protocol](protocol.md).",
    ]
    family = ""
    for rule, places in carried().items():
        if _place(rule)[0] != family:
            family = _place(rule)[0]
            about = FAMILIES.get(family)
            lines += ["", f"## {family}" + (f": {about}" if about else ""), "", "| rule | claim | test |"]
            lines += ["| --- | --- | --- |"]
        for where, claims in places.items():
            for claim in dict.fromkeys(claims):
                told = re.sub(r"(?<!\\)\|", r"\\|", claim)
                lines.append(f"| {rule} | {told} | [{Path(where).name}](../../{where}) |")
    return "\n".join(lines) + "\n"


# Chapter: errors


def errors_table() -> str:
    """Make the table of errors, out of the classes."""
    from orbital_relay import errors

    found: dict[str, tuple[int, int | None, bool, str]] = {}

    def walk(kind: type[errors.OrbitalError]) -> None:
        for sub in kind.__subclasses__():
            if not sub.__name__.startswith("_") and "code" in vars(sub):
                told = (sub.__doc__ or "").strip().splitlines()[0]
                found[sub.code] = (sub.status, sub.close, sub.retryable, told)
            walk(sub)

    walk(errors.OrbitalError)
    lines = ["| status | code | when | again? |", "| --- | --- | --- | --- |"]
    for code, (status, _close, retryable, told) in sorted(found.items(), key=lambda item: (item[1][0], item[0])):
        lines.append(f"| {status} | `{code}` | {told} | {'after `Retry-After`' if retryable else 'no'} |")
    lines.append("| 500 | `INTERNAL` | The server made a mistake; its log tells which. | perhaps |")
    return "\n".join(lines)


def protocol_page(page: str) -> str:
    """Return the protocol page with its table of errors as it is now."""
    made = re.compile(r"(<!-- errors: [^\n]*-->\n).*?(<!-- end of errors -->)", re.DOTALL)
    found = made.search(page)
    assert found is not None, "the protocol page has lost the place of its table of errors"
    return page[: found.start()] + found[1] + "\n" + errors_table() + "\n\n" + found[2] + page[found.end() :]


# Chapter: the command line


def command_line_page() -> str:
    """Make docs/reference/command-line.md out of every `--help`."""
    import click

    from orbital_relay.cli import main

    lines = [
        "# The command line",
        "",
        f"<!-- Made by `{COMMAND}` from every command's `--help`. -->",
        "",
        "`orbital` serves, and looks after what is served.",
        "`tail`, `send` and `media` are clients: they need no server's parts, only an address and a token.",
        "",
    ]

    def tell(command: click.Command, name: str, parent: click.Context | None) -> None:
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
                tell(found, sub, context)

    tell(main, "orbital", None)
    return "\n".join(lines)


PAGES: dict[str, Callable[[str], str]] = {
    "rules.md": lambda _now: rules_page(),
    "command-line.md": lambda _now: command_line_page(),
    "protocol.md": protocol_page,
}
"""How each page is made, given its present text."""


def main() -> None:
    """Write every page that has changed."""
    for name, make in PAGES.items():
        path = REFERENCE / name
        now = path.read_text("utf-8") if path.exists() else ""
        made = make(now)
        if made != now:
            path.write_text(made, "utf-8")
            sys.stdout.write(f"docs/reference/{name}\n")


if __name__ == "__main__":
    main()
