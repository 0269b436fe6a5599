"""The glossary: its words are in order, each has the field's synonyms, and the names of the source exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.programs import CHECKOUT

GLOSSARY = CHECKOUT / "docs" / "glossary.md"
SOURCE = CHECKOUT / "src" / "orbital_relay"
SECOND = "## Where it is in the source"

FIELD = (
    "ack", "backpressure", "consumer position", "deduplication", "eviction", "fan-out", "graceful shutdown",
    "high and low watermark", "idempotency key", "lease", "offset", "publisher", "rate limit", "replay", "retention",
    "revocation", "sequence number", "sliding window", "subscriber", "trim", "watermark",
)  # fmt: skip
"""Words that a reader from elsewhere searches for."""


def words() -> list[list[str]]:
    """Return the cells of the glossary's first table: a word, what it is, its synonyms."""
    return tables(GLOSSARY.read_text("utf-8").split(SECOND)[0])


def places() -> list[list[str]]:
    """Return the cells of the second part: terms, a name in the source, its file."""
    return [[cell.strip("`") for cell in row] for row in tables(GLOSSARY.read_text("utf-8").split(SECOND)[1])]


def tables(text: str) -> list[list[str]]:
    """Return the rows of all tables in a text, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row, below in zip(rows, [*rows[1:], [""]], strict=True) if "---" not in row[0] + below[0]]


def path_of(file: str) -> Path:
    """Return the path of a file of the second part: of the server and the Python SDK, if it names no other folder."""
    return CHECKOUT / file if file.startswith(("clients/", "web/")) else SOURCE / file


def test_words():
    """[GLOSS1] Each term has a meaning and the field's synonyms, and each synonym is found."""
    table = words()
    text = GLOSSARY.read_text("utf-8").lower()

    assert len(table) > 40
    assert [row for row in table if len(row) != 3 or not all(row)] == []
    assert sorted(row[0].strip("*") for row in table) == [row[0].strip("*") for row in table]
    assert [word for word in FIELD if word not in text] == []


def test_names_of_the_source():
    """[GLOSS2] Each name that the glossary gives for a term is defined in the file that it cites."""
    missing = []
    for _terms, name, file in places():
        defined = re.compile(
            rf"^(?:export )?(?:async )?(?:class|def|function|const) {name}\b|^{name}(?:: | = )", re.MULTILINE
        )
        if not path_of(file).is_file() or not defined.search(path_of(file).read_text("utf-8")):
            missing.append(f"{name} in {file}")

    assert len(places()) > 140
    assert missing == []


TERMS = (
    "ack", "admission", "disk full", "leader election", "maximum message size", "offline queue", "pagination",
    "service worker",
    "argon2", "back-off", "backpressure", "backup", "checkpoint", "claim", "clock jump",
    "clock skew", "close code", "compaction", "connection limit", "connection pool", "content security policy",
    "cors", "deduplication", "draining", "epoch", "etag", "eviction", "expiry", "fan-out", "fork detection",
    "gap repair", "group commit", "hash chain", "health probe", "heartbeat", "idempotency", "invite code", "jitter",
    "jwks", "low watermark", "member limit", "multipart", "password policy", "permessage-deflate", "permission",
    "presence", "pub/sub", "quiet hours", "quota", "rate limit", "read marks", "reconnect", "replay", "resume",
    "retention", "revocation", "safety number", "sender key", "sliding window", "slow consumer", "ssrf", "timeout",
    "token bucket", "tombstone", "trusted prox", "typing throttle", "vapid", "watermark",
)  # fmt: skip
"""Terms by which a reader from elsewhere looks for the code."""


def head(path: Path) -> str:
    """Return the first line of a module's docstring, or the first comment of a JavaScript file, in lower case."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].lower()
    comment = re.search(r"/\*\*(.*?)\*/", text, re.DOTALL)
    return re.sub(r"\s*\n \*\s*", " ", comment[1]).lower() if comment else ""


@pytest.mark.parametrize("term", TERMS)
def test_terms_lead_to_files(term: str):
    """[GLOSS3] A term of the field is in the first line of the module that the glossary gives for it."""
    word = re.compile(rf"\b{re.escape(term)}")
    files = {file for terms, _name, file in places() if word.search(terms.lower())}

    assert [file for file in files if word.search(head(path_of(file)))] != []


QUALIFIER = re.compile(
    r" *\([^)]*\)|(?::| of | on | by | in | to | between | for | that | under | with | is | shared ).*"
)
"""What follows a term in a cell and is not part of it."""


def test_every_row_leads_to_its_file():
    """[GLOSS4] Of each row of the glossary's map, one of the terms is in the first line of the file that it cites."""
    silent = [
        (file, terms)
        for terms, _name, file in places()
        if not any(QUALIFIER.sub("", term).strip().lower() in head(path_of(file)) for term in terms.split(", "))
    ]

    assert silent == []
