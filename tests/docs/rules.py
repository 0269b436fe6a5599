"""
The rules that tests carry: where each is claimed, and the index of them in tests/RULES.md.

A test's docstring (in JavaScript: its title, or that of the `describe` around it) begins with the number of a rule in
brackets and a claim. A number means one rule: it is used on one side of the project only (`SIDES`), and where it has
several claims, the protocol's pages or `SHARED` state what they have in common; the index shows them side by side.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.programs import CHECKOUT

INDEX = "tests/RULES.md"
PROTOCOL = (
    CHECKOUT / "docs" / "reference" / "protocol.md",
    *sorted((CHECKOUT / "docs" / "reference" / "protocol").glob("*.md")),
    CHECKOUT / "docs" / "explanation" / "internal-rules.md",
)
"""The pages that state rules."""

RULE = re.compile(r"[A-Z]+[0-9]+")
_CLAIM = re.compile(r"\[(?P<rules>[A-Z]+[0-9]+(?:,? [A-Z]+[0-9]+)*)\] *")
_JAVASCRIPT = re.compile(
    r"""(?:describe|test|it)(?:\.\w+)?\(\s*(['"`])"""
    r"""\[(?P<rules>[A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)*)\] (?P<claim>.*?)(?<!\\)\1"""
)
_JAVASCRIPT_CALL = re.compile(r"^(?P<indent> *)(?:await )?(?P<kind>describe|test|it)(?:\.\w+)?\(", re.MULTILINE)
_PROMISES = re.compile(r"P([1-5])")

FAMILIES = {
    "ACC": "accounts",
    "ACCOUNTS": "accounts in the store",
    "ADM": "the key by which a connection attempt is counted",
    "ADR": "the client's address behind proxies",
    "ANNOT": "annotations of threads, replies and media",
    "ANY": "any request at all",
    "API": "Python SDK: the REST side",
    "APPEND": "appending to the log",
    "ASIDE": "end-to-end encryption: drafts that the server refuses",
    "ATT": "attempts to connect, counted",
    "AUT": "verification of tokens",
    "AUTH": "tokens over HTTP",
    "BACKUP": "backup and restore",
    "BAD": "bad frames",
    "BAS": "Python SDK: its base install",
    "BCK": "reconnection back-off",
    "BENCH": "the bench",
    "BLOB": "blob storage",
    "BUC": "token buckets",
    "CAL": "Python SDK: callbacks",
    "CHECK": "`orbital check`",
    "CHGKEY": "the page: keys that change with every message",
    "CHK": "`orbital check` and media",
    "CHN": "the hash chain",
    "CHO": "where the older description was silent",
    "CIPHPG": "the page: groups of version 2",
    "CIRUN": "the run on a fresh machine",
    "CLAIM": "claims of public keys",
    "CLI": "the command line",
    "CLUSTER": "servers that share a database and a Redis",
    "CMD": "the commands of the SDK",
    "CMDLOAD": "how the command line loads its subcommands",
    "COLNAME": "the name of a column",
    "COMM": "workflows, policies and templates",
    "CONF": "what an outside tester reads in the protocol",
    "CORS": "pages of other origins",
    "CRE": "the place of the token in a handshake",
    "CREATE": "the page: creating a group",
    "CRY": "end-to-end encryption: cryptography",
    "DELETED": "deletion of messages, threads and replies",
    "DEVGRP": "end-to-end encryption: groups of devices",
    "DEVICE": "changes of devices, and their events in groups",
    "DIAG": "diagrams",
    "DISPNAME": "display names",
    "DIST": "sdist and wheel",
    "DOC": "the description of the API",
    "DOCS": "the documents",
    "DOO": "admission",
    "DRAFT": "the page: drafts",
    "DRAIN": "graceful shutdown",
    "DSK": "the room on the server's disk",
    "EPOCH": "epochs of groups",
    "ERASE": "erased accounts and deleted groups",
    "ERR": "errors over HTTP",
    "ERRORS": "values that the database cannot hold",
    "EVERY": "all clients in one group",
    "EVT": "events on the socket",
    "EXPORT": "the export of an account",
    "EXA": "examples of the Python SDK",
    "FAILBAN": "the fail2ban filter",
    "FIGNODE": "figures in Node",
    "FIGPAGE": "figures in a page, beside those of Node and Python",
    "FITS": "the page: room for files",
    "FMT": "end-to-end encryption: formats",
    "FORKED": "forked servers of the tests",
    "FORM": "the form of what is sent",
    "FRAMES": "stamps in the store and in a cluster",
    "FRM": "Python SDK: frames",
    "GAP": "Python SDK: gaps",
    "GBD": "bounds of groups and members",
    "GLOSS": "the glossary",
    "GROUPKEY": "the page: keys of groups",
    "GROUPS": "groups in the store",
    "GRP": "groups",
    "HANDSHAKE": "tickets at any server",
    "HB": "the heartbeat",
    "HOLD": "the page: what people write and hold",
    "HOUSE": "the source tree",
    "STEADY": "tests on a busy machine",
    "HOUSEJS": "the source of the JavaScript SDK",
    "HTTP": "routes",
    "HUB": "the hub",
    "HUBPIN": "the hub: pins and counts",
    "IDP": "an outside identity provider with one key",
    "INDEX": "the index of the source",
    "INPUT": "the page: input",
    "INVITE": "the page: invitations",
    "INVITED": "invitations in the store",
    "JOIN": "invite codes",
    "JWK": "an outside identity provider with a key set",
    "KEEP": "retention",
    "KEPT": "the page: stored data",
    "KEYS": "devices and the public keys that they offer",
    "KEYTEXT": "the page: keys as text",
    "LIE": "end-to-end encryption: a relay that lies",
    "LIM": "rate limits",
    "LIMITS": "limits over several servers",
    "LIN": "Python SDK: the connection",
    "LINE": "HTTP/1.1 connections",
    "LINK": "end-to-end encryption: linking a device by a code",
    "LMT": "counters of limits",
    "LOG": "log lines",
    "MAILBOX": "mailboxes for linking devices",
    "MANAGER": "JavaScript SDK: the manager of the published class",
    "MARK": "the page: markdown",
    "MED": "media",
    "MEDIA": "media at any server",
    "MEDIUM": "the page: descriptions of media",
    "MEM": "memory for large answers",
    "MESSAGES": "pages of messages",
    "MEMSTORM": "storms of members of both packages",
    "MET": "metrics",
    "METRICS": "metrics of several workers",
    "MSG": "messages",
    "MSTATE": "the state that a member's devices share about a group",
    "NEWCOM": "end-to-end encryption: newcomers",
    "ONCE": "idempotency keys",
    "OPDOC": "the commands of the pages for operators",
    "OPER": "accounts and groups as the operator sees them",
    "ORD": "order",
    "ORI": "origins",
    "OUT": "clients and test suites of other projects",
    "OUTBOX": "JavaScript SDK: the outbox",
    "PACKET": "the first packet of a connection",
    "PAGES": "the documentation as a site",
    "PAIR": "client and server, connected in memory",
    "PARTS": "installing the SDK alone",
    "PAS": "passwords",
    "PEOPLE": "the page: members",
    "PERM": "permissions",
    "PILL": "the page: the indicator of the connection",
    "PMD": "compression of events",
    "POS": "Python SDK: positions",
    "POST": "posting by frames",
    "PRESENCE": "presence over several servers",
    "PROBE": "`orbital health`",
    "PROGNAME": "programs beside the package",
    "PROM": "the promises",
    "PROXY": "sample configurations of proxies",
    "PRUNE": "deleting old events and keys",
    "PYBOT": "end-to-end encryption in Python: on a real server",
    "PYCON": "Python SDK: connecting",
    "PYCRY": "end-to-end encryption in Python: cryptography",
    "PYDEV": "end-to-end encryption in Python: groups of devices",
    "PYEVT": "Python SDK: the stream of events",
    "PYFMT": "end-to-end encryption in Python: formats",
    "PYLINK": "end-to-end encryption in Python: linking a device by a code",
    "PYLINKNODE": "end-to-end encryption: Python and JavaScript link each other",
    "PYMED": "Python SDK: media",
    "PYNEW": "end-to-end encryption in Python: newcomers",
    "PYNODE": "end-to-end encryption in Python: beside Node",
    "PYOUT": "Python SDK: the outbox",
    "PYRCV": "end-to-end encryption in Python: the receiver's machine",
    "PYROS": "end-to-end encryption in Python: the roster",
    "PYSAFE": "end-to-end encryption in Python: stores",
    "PYSND": "end-to-end encryption in Python: the sender's machine",
    "PYSUB": "Python SDK: subscriptions",
    "PYTOK": "Python SDK: tokens",
    "PYVEC": "end-to-end encryption in Python: vectors",
    "QR": "QR codes that the page draws",
    "QUO": "quota of media",
    "RATE": "too many frames",
    "RCV": "end-to-end encryption: the receiver's machine",
    "REACT": "JavaScript SDK: the hooks for React",
    "READ": "the page: read positions",
    "READERS": "the reading threads of SQLite",
    "REC": "recovering the log",
    "RECORD": "records of a roster, and key messages",
    "REMOVE": "the page: removing a member",
    "REPEAT": "requests that are repeated with their key",
    "REQ": "requests counted",
    "RETRY": "media and keys",
    "ROS": "end-to-end encryption: the roster",
    "RST": "Python SDK: the REST side of a real server",
    "RUN": "health",
    "RUNNING": "readiness of stores and buses",
    "SAFE": "end-to-end encryption: stores, licences and sizes",
    "SDK": "Python SDK: through a storm",
    "SDKCONN": "JavaScript SDK: the connection",
    "SDKDOC": "JavaScript SDK: programs of the documentation",
    "SDKMEDIA": "JavaScript SDK: media",
    "SDKPAGE": "JavaScript SDK: in Chromium",
    "SDKPARTS": "JavaScript SDK: the REST client and verification, each alone",
    "SDKREAL": "JavaScript SDK: on a real server",
    "SDKREST": "JavaScript SDK: the REST side",
    "SDKSIZE": "JavaScript SDK: size and imports",
    "SDKSUB": "JavaScript SDK: subscriptions",
    "SDKVEC": "JavaScript SDK: the shared vectors",
    "SEALNOTE": "end-to-end encryption: annotations",
    "SEALLIE": "end-to-end encryption in Python: a relay that lies",
    "SEC": "secrets",
    "SESSION": "the page: the session",
    "SET": "settings",
    "SGL": "end-to-end encryption: with libsignal",
    "SGN": "who may sign up",
    "SIGFAM": "end-to-end encryption: the example with libsignal",
    "SHELL": "the page: files that the service worker keeps",
    "SIG": "Python SDK: frames that are not events",
    "SIM": "Python SDK: seeded disorder",
    "SITE": "the files that are served",
    "SLOW": "slow readers",
    "SND": "end-to-end encryption: the sender's machine",
    "SOCK": "the socket",
    "STAMP": "stamps",
    "STARTUP": "starting, stopping, and services that are away",
    "STO": "Python SDK: stores",
    "SUB": "subscribing",
    "SUBSCRIBE": "memberships in the store",
    "SUPPORT": "the tools of the tests",
    "THR": "threads",
    "THREADS": "threads in the store",
    "TIC": "the store of tickets",
    "TICK": "tickets",
    "TOK": "the expiry of a token on a connection",
    "TOKENS": "revoked tokens over several servers",
    "TYP": "Python SDK: typing",
    "TYPE": "typing",
    "TYPING": "the page: typing indicators",
    "UNIT": "systemd units",
    "UPLOAD": "the page: uploads",
    "USE": "use cases",
    "VEC": "end-to-end encryption: the shared vectors",
    "VENDOR": "end-to-end encryption: the bundle of the page",
    "VER": "Python SDK: verification of the chain",
    "VERIFY": "JavaScript SDK: verification of the chain",
    "WAIT": "the page: the outbox",
    "WHEEL": "the timer of heartbeats",
    "WIN": "sliding windows",
    "WS": "the edge: RFC 6455 and RFC 7692",
}
"""What each family of rules is about; a family that is not here has a heading without it."""

SHARED = {
    "AUT17": "A fact that was read before an await is read again after it.",
    "AUT18": "Closing cancels every task that the authenticator started.",
    "BLOB14": "A multipart upload that does not complete leaves no parts in the bucket.",
    "CLOCK4": "Every leap of the clock starts a hold, also after an earlier leap.",
    "CLOCK5": "`orbital clock --accept` ends the hold.",
    "MET1": "Every counter has the value that the rooms counted, under a label of bounded cardinality.",
    "MET2": "A scrape returns the current values.",
    "SENT1": "A refusal of a field names the field and what it must be, in the words of JSON.",
}
"""The rules of more than one file that no page states: what the claims of the files have in common."""

SIDES = (
    ("clients/e2ee/", "end-to-end encryption"),
    ("clients/signal/", "end-to-end encryption"),
    ("examples/signal-family/", "end-to-end encryption"),
    ("clients/", "JavaScript SDK"),
    ("web/", "page"),
    ("tests/browser/", "page"),
    ("tests/clients/", "Python SDK"),
    ("tests/unit/client/", "Python SDK"),
    ("tests/docs/", "documents"),
    ("tests/outside/", "outside clients"),
    ("tests/", "server"),
)
"""Which side of the project a test file belongs to; the first prefix that fits decides."""


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


@cache  # the checkout does not change while its tests run
def _claims(path: Path) -> tuple[tuple[str, str], ...]:
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        return tuple(
            found
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            for found in _of_docstring(ast.get_docstring(node) or "")
        )
    return tuple((rule, found["claim"]) for found in _JAVASCRIPT.finditer(source) for rule in _split(found["rules"]))


def unnumbered(source: str, suffix: str) -> list[str]:
    """
    Return the tests of a file that begin with no rule's number: names, or in JavaScript the first line of the call.

    A JavaScript test needs none of its own inside a `describe` that has one: its title names a variant of that claim.

    Args:
        source: The file's text; JavaScript as the formatter writes it, for its indents show what is inside what.
        suffix: The file's suffix, as ".py".
    """
    if suffix == ".py":
        return [
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and not _CLAIM.match(ast.get_docstring(node) or "")
        ]
    missing = []
    around: list[tuple[int, bool]] = []
    for call in _JAVASCRIPT_CALL.finditer(source):
        indent = len(call["indent"])
        numbered = _JAVASCRIPT.match(source, call.start("kind")) is not None
        around = [(depth, has) for depth, has in around if depth < indent]
        if call["kind"] == "describe":
            around.append((indent, numbered))
        elif not numbered and not any(has for _, has in around):
            missing.append(source[call.start("kind") :].splitlines()[0])
    return missing


def _has_tests(path: Path) -> bool:
    if path.suffix == ".py":
        return path.name.startswith("test_")
    return path.suffix in {".js", ".mjs"} and "from 'node:test'" in path.read_text("utf-8")


def test_files() -> list[Path]:
    """Return the files with tests, in order: Python's by their name, JavaScript's by what they import."""
    found = []
    for top in ("tests", "clients", "web", "examples", "bench"):
        for folder, inside, names in os.walk(CHECKOUT / top):
            inside[:] = sorted(name for name in inside if name != "node_modules" and not name.startswith("."))
            found += [path for name in sorted(names) if _has_tests(path := Path(folder, name))]
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
    """Return the rules that a page states: those that are in bold, or in bold at a sentence's start."""
    return {rule for bold in re.findall(r"\*\*([^*]+)\*\*", page) for rule in re.findall(r"^[A-Z]+[0-9]+\b", bold)}


def side(where: str) -> str:
    """Return the side of the project that a test file belongs to."""
    return next(name for prefix, name in SIDES if where.startswith(prefix))


def ambiguous() -> list[str]:
    """Return a sentence for each number that stands for two rules, or whose meaning nothing states."""
    known = stated("\n".join(path.read_text("utf-8") for path in PROTOCOL)) | SHARED.keys()
    found = []
    for rule, places in carried().items():
        sides = sorted({side(where) for where in places})
        files = ", ".join(places)
        if len(sides) > 1:
            found.append(f"{rule} is a rule of {' and of '.join(sides)} ({files}): give one of them another number")
        elif len({claim for claims in places.values() for claim in claims}) > 1 and rule not in known:
            found.append(f"{rule} has several claims ({files}): state in SHARED what it means, or give each a number")
    return found


def rules_page() -> str:
    """Return the text of tests/RULES.md."""
    lines = [
        "# Index of rules",
        "",
        "<!-- Made by `python -m tests.docs.pages` from the claims of the tests. -->",
        "",
        "Every test makes a claim, and the claim begins with the number of a rule.",
        "This index lists every number, what tests claim under it, and in which file.",
        "[The protocol](../docs/reference/protocol.md) states the rules between clients and servers, and",
        "[internal rules](../docs/explanation/internal-rules.md) those of the server's inside.",
        "A number means one rule: where it has several claims, these pages or a row in bold state it.",
    ]
    family = ""
    for rule, places in carried().items():
        if _place(rule)[0] != family:
            family = _place(rule)[0]
            about = FAMILIES.get(family)
            lines += ["", f"## {family}" + (f": {about}" if about else ""), "", "| rule | claim | test |"]
            lines += ["| --- | --- | --- |"]
        if rule in SHARED:
            lines.append(f"| {rule} | **{SHARED[rule]}** | |")
        for where, claims in places.items():
            for claim in dict.fromkeys(claims):
                cell = re.sub(r"(?<!\\)\|", r"\\|", claim)
                lines.append(f"| {rule} | {cell} | [{Path(where).name}](../{where}) |")
    return "\n".join(lines) + "\n"
