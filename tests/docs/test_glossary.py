"""The glossary: its words are in order, each has the field's synonyms, and the names of the source exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.programs import CHECKOUT

GLOSSARY = CHECKOUT / "docs" / "glossary.md"
SOURCE = CHECKOUT / "src" / "orbital_relay"

FIELD = (
    "ack", "backpressure", "consumer position", "deduplication", "eviction", "fan-out", "graceful shutdown",
    "high and low watermark", "idempotency key", "lease", "offset", "publisher", "rate limit", "replay", "retention",
    "revocation", "sequence number", "sliding window", "subscriber", "trim", "watermark",
)  # fmt: skip
"""Words that a reader from elsewhere searches for."""


def rows(part: int) -> list[list[str]]:
    """Return the cells of the glossary's first table, the words, or of its second, the names in the source."""
    text = GLOSSARY.read_text("utf-8").split("## Where it is in the source")[part]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_words():
    """[GLOSS1] Each term has a meaning and the field's synonyms, and each synonym is found."""
    table = rows(0)
    text = GLOSSARY.read_text("utf-8").lower()

    assert len(table) > 40
    assert [row for row in table if len(row) != 3 or not all(row)] == []
    assert sorted(row[0].strip("*") for row in table) == [row[0].strip("*") for row in table]
    assert [word for word in FIELD if word not in text] == []


def test_names_of_the_source():
    """[GLOSS2] Each name that the glossary gives for a term is defined in the file that it cites."""
    missing = []
    for _term, name, file in rows(1):
        path, defined = (
            SOURCE / file.strip("`"),
            re.compile(rf"^(?:class|def|async def) {name.strip('`')}\b", re.MULTILINE),
        )
        if not path.is_file() or not defined.search(path.read_text("utf-8")):
            missing.append(f"{name} in {file}")

    assert missing == []


TERMS = (
    "ack", "admission", "back-off", "backpressure", "compaction", "deduplication", "draining", "eviction", "fan-out",
    "group commit", "health probe", "heartbeat", "idempotency", "jitter", "presence", "rate limit", "replay", "resume",
    "retention", "revocation", "tombstone", "watermark",
)  # fmt: skip
"""Terms by which a reader from elsewhere looks for the code."""


def head(path: Path) -> str:
    """Return the first line of a module's docstring, in lower case."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0].lower()


@pytest.mark.parametrize("term", TERMS)
def test_terms_lead_to_files(term: str):
    """[GLOSS3] A term of the field is in the first line of the module that the glossary gives for it."""
    word = re.compile(rf"\b{term}")
    files = {file.strip("`") for named, _name, file in rows(1) if word.search(named.lower())}

    assert [file for file in files if word.search(head(SOURCE / file))] != []
