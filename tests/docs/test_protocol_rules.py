"""The pages of the protocol and the tests name the same rules; their tables match the code."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import msgspec
import pytest

from orbital_relay import config, errors, wire
from orbital_relay.core import session
from orbital_relay.server.auth import authenticator
from orbital_relay.server.http import endpoint
from orbital_relay.server.limits import policy
from orbital_relay.server.sessions import greeting
from tests.docs import pages, rules
from tests.support.programs import CHECKOUT

INNER = frozenset({"HUB", "ORD", "USE", "WHEEL"})
"""Families of the server's inside, which the page of internal rules states."""
OUTER = INNER | {
    "ACC", "AUTH", "BAD", "CHN", "CHO", "CLAIM", "CONF", "CORS",
    "CRE", "DEVICE", "DOO", "DRAIN", "EPOCH", "ERR", "EVT", "FORM", "GRP", "HB", "JOIN", "KEEP", "KEYS",
    "LIM", "LINE", "MAILBOX", "MSG", "ONCE", "PERM", "PMD", "POST", "PROM", "PUSH", "RATE", "REC", "RECORD", "RUN",
    "SEC", "SLOW", "SOCK", "STAMP",
    "SUB", "THR", "TICK", "TOK", "TYPE", "WS",
}  # fmt: skip
"""Families that the pages must state, rule by rule; the others are in the index alone."""


def protocol() -> str:
    """Return the pages of the protocol and of internal rules, joined."""
    return "\n".join(path.read_text("utf-8") for path in rules.PROTOCOL)


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table that follows a heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(?P<text>.*?)(?=^#)", protocol(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no heading {title!r}"
    lines = [line for line in found["text"].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def code(cell: str) -> list[str]:
    """Return what is in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_stated_rule_is_tested():
    """[DOCS1] Every rule that the protocol states is claimed by a test."""
    carried = rules.carried()
    stated = rules.stated(protocol())

    assert len(stated) > 150
    assert sorted(stated - carried.keys()) == []


def test_every_tested_rule_is_stated():
    """[DOCS2] Every rule of the protocol's families that a test claims is stated in its pages."""
    stated = rules.stated(protocol())
    silent = [rule for rule in rules.carried() if rule.rstrip("0123456789") in OUTER and rule not in stated]

    assert silent == []


def test_the_index_has_every_rule():
    """[DOCS25] The index has each rule that a test claims and no other, and links to existing files."""
    index = (CHECKOUT / rules.INDEX).read_text("utf-8")
    indexed = set(re.findall(r"^\| ([A-Z]+[0-9]+) \|", index, re.MULTILINE))

    gone = [link for link in re.findall(r"\]\(\.\./([^)#]+)\)", index) if not (CHECKOUT / link).is_file()]

    assert sorted(indexed ^ rules.carried().keys()) == [], f"run: {pages.COMMAND}"
    assert gone == []


def test_a_number_is_one_rule():
    """[DOCS23] A number is used on one side of the project; where it has several claims, its meaning is stated."""
    carried = rules.carried()
    unused = [rule for rule in rules.SHARED if len({*chain(*carried.get(rule, {}).values())}) < 2]

    assert rules.ambiguous() == []
    assert unused == []


def test_every_test_has_a_number():
    """[DOCS29] Every test, in Python and in JavaScript, begins with the number of the rule that it proves."""
    missing = {
        path.relative_to(CHECKOUT).as_posix(): found
        for path in rules.test_files()
        if (found := rules.unnumbered(path.read_text("utf-8"), path.suffix))
    }

    assert len(rules.test_files()) > 250
    assert missing == {}


@pytest.mark.parametrize(
    ("suffix", "source", "missing"),
    [
        (".py", 'def test_a():\n    """[RUN] A claim."""', ["test_a"]),
        (".py", 'async def test_a():\n    """[RUN1][RUN2] A claim."""\ndef test_b(): ...', ["test_b"]),
        (".js", "test('a claim', () => {});", ["test('a claim', () => {});"]),
        (".js", "test('[RUN1] a claim', () => {});\ntest.only(name, () => {});", ["test.only(name, () => {});"]),
        (
            ".js",
            "test(\n  '[RUN1] a claim',\n  () => {},\n);\ntest(`[RUN] ${what}`, f);",
            ["test(`[RUN] ${what}`, f);"],
        ),
        (".js", "describe('[RUN1] a claim', () => {\n  test('one', f);\n});\ntest('two', f);", ["test('two', f);"]),
        (".js", "describe('a part', () => {\n  test('one', f);\n});", ["test('one', f);"]),
    ],
)
def test_a_test_without_a_number_is_found(suffix: str, source: str, missing: list[str]):
    """[DOCS30] A test without a number is found; inside a `describe` that has one, a test is a variant of its claim."""
    assert rules.unnumbered(source, suffix) == missing


@pytest.mark.parametrize("name", [name for name in pages.PAGES if name != rules.INDEX])
def test_generated_pages_are_current(name: str):
    """[DOCS3] Generated pages match the code; of the index only the rules are compared, not each word."""
    now = (CHECKOUT / name).read_text("utf-8")

    assert now == pages.PAGES[name](now), f"run: {pages.COMMAND}"


def fields(struct: Any) -> set[str]:
    """Return the names of a frame's data."""
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def test_frames_from_the_server():
    """[DOCS4] The table of the server's frames has each of them, with exactly its fields."""
    written = {code(row[0])[0]: set(code(row[1])) for row in rows("From the server")}
    said = {
        **{kind: fields(data) for kind, data in wire.EVENTS.items()},
        **{data.kind: fields(data) for data in wire.ServerData.__args__},
    }

    assert written.keys() == said.keys() | {"error", "posted"}
    assert {kind: written[kind] for kind in said} == said


def test_frames_from_the_client():
    """[DOCS26] The table of the client's frames has each of them."""
    written = {code(row[0])[0] for row in rows("From the client")}

    assert written == {frame.__struct_config__.tag for frame in wire.ClientFrame.__args__}


def test_close_codes():
    """[DOCS5] Every close code that an error has is in the table of endings."""
    written = {int(number) for row in rows("Endings") for number in re.findall(r"\b1\d{3}\b", row[0])}
    carried = {kind.close for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "close")}

    assert carried - {None} <= written
    assert {1002, 1003, 1007, 1008, 1009, 1011, 1012} <= written


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"attempts \| (\d+) a minute", config.Settings().connect_limit),
        (r"has a ceiling of (\d+)", config.Settings().connect_ceiling),
        (r"logins \| (\d+) in 15", config.Settings().login_limit),
        (r"logins \| \d+ in 15 minutes; (\d+) in all", config.Settings().login_ceiling),
        (r"signups \| (\d+) in", config.Settings().signup_limit),
        (r"tries to join \| (\d+) in", config.Settings().join_limit),
        (r"exports of an account \| (\d+) an hour", policy.EXPORT_LIMIT),
        (r"other requests \| (\d+) a minute", config.Settings().request_limit),
        (r"frames \| (\d+) a second", config.Settings().frame_rate),
        (r"frames \| \d+ a second, (\d+) at once", 2 * config.Settings().frame_rate),
        (r"encrypted field \| (\d+) KiB", config.Settings().envelope_bytes // 1024),
        (r"`heartbeat_seconds` \((\d+) unless", config.Settings().heartbeat_s),
        (r"`ORBITAL_MAX_LAG_SECONDS` \((\d+)\)", config.Settings().max_lag_s),
        (r"retained \((\d+) days unless", config.Settings().retention_days),
        (r"After (\d+) days \(a setting\) a code", config.Settings().invite_days),
        (r"frame from a client \| (\d+) KiB", greeting.MAX_FRAME_BYTES // 1024),
        (r"one handshake within (\d+) seconds", authenticator.TICKET_S),
        (r"itself sends the stop after (\d+) seconds", session.TYPING_S),
        (r"`token_expiring` [^|]*\|[^|]*\| (\d+) seconds before", session.EXPIRY_NOTICE_S),
        (r"arrive within (\d+) seconds is aborted", endpoint.BODY_DEADLINE_S),
    ],
)
def test_figures(written: str, value: float):
    """[DOCS24] The figures on the protocol's pages are those of the code."""
    found = re.search(written, protocol())

    assert found is not None
    assert float(found[1]) == value
