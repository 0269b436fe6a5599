"""The documents are consistent: links resolve, every page is reachable, sentences are original, one per line."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from orbital_relay import cli, config
from tests.docs import reading
from tests.support.programs import CHECKOUT, missing

WINDOW = 8
"""Words in a row that nobody writes twice by chance."""
MADE = frozenset(f"docs/reference/{name}.md" for name in ("settings", "metrics", "http", "command-line"))
"""Pages made from the code: held current elsewhere."""


def name_of(path: Path) -> str:
    """Return how a test is called."""
    return path.relative_to(CHECKOUT).as_posix()


@pytest.mark.parametrize("page", reading.documents(), ids=name_of)
def test_links(page: Path):
    """[DOCS6] Every link to a file or a heading resolves."""
    dead = []
    for link in reading.links(page.read_text("utf-8")):
        if urlsplit(link).scheme:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / unquote(place)).resolve() if place else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in reading.anchors(target.read_text("utf-8"))
        ):
            dead.append(link)

    assert dead == []


def test_every_page_is_reachable():
    """[DOCS7] Every page of docs/ is reachable from docs/index.md by links."""
    index = CHECKOUT / "docs" / "index.md"
    seen, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for link in reading.links(page.read_text("utf-8")):
            if urlsplit(link).scheme:
                continue
            target = (page.parent / unquote(link.partition("#")[0])).resolve()
            if target.suffix == ".md" and target.is_file() and target not in seen:
                seen.add(target)
                waiting.append(target)

    hidden = [name_of(page) for page in sorted((CHECKOUT / "docs").rglob("*.md")) if page not in seen]
    assert hidden == []


def test_our_own_words():
    """[DOCS8] No eight consecutive words are copied from the documents that specified the project."""
    given = os.environ.get("ORBITAL_PUBLISHED_DOC")
    folder = Path(given).parent if given else CHECKOUT.parent / "shared"
    theirs = sorted(folder.glob("*.md")) if folder.is_dir() else []
    if not theirs:
        missing("the folder of the documents", remedy="ORBITAL_PUBLISHED_DOC may say where one of them is")
    known = set()
    for path in theirs:
        words = reading.words(path.read_text("utf-8"))
        known |= {tuple(words[at : at + WINDOW]) for at in range(len(words) - WINDOW + 1)}

    copied = []
    for page in reading.documents():
        if name_of(page) not in MADE:
            words = reading.words(page.read_text("utf-8"))
            rows = [tuple(words[at : at + WINDOW]) for at in range(len(words) - WINDOW + 1)]
            copied += [f"{name_of(page)}: {' '.join(row)}" for row in rows if row in known]
    assert copied == []


@pytest.mark.parametrize(
    "page", [page for page in reading.documents() if "docs" in page.parts and name_of(page) not in MADE], ids=name_of
)
def test_one_sentence_per_line(page: Path):
    """[DOCS9] One sentence per line, so that a diff shows what changed."""
    text = reading.without_code(page.read_text("utf-8"))
    crowded = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if not line.lstrip().startswith("|") and re.search(r"[a-z)`*][.!?] (?=[A-Z`*⊕])", line)
        and not re.search(r"^\W*\*\*[^*]+\.\*\* [^.]*\.?$", line.strip())
    ]  # fmt: skip

    assert crowded == []


# Chapter: names


def test_settings_are_settings():
    """[DOCS20] Every `ORBITAL_…` that a page names is a setting, or a variable of one of the project's programs."""
    known = {option.env for option in config.OPTIONS} | {
        "ORBITAL_CHROMIUM",  # the tests'
        "ORBITAL_CONFIG",  # names the configuration file
        "ORBITAL_INVITE",  # the part of an invite link that `orbital verify` reads
        "ORBITAL_PUBLISHED_DOC",
        "ORBITAL_SEED",
        "ORBITAL_TESTS_COMPLETE",
        "ORBITAL_TOKEN",  # the SDK's commands'
        "ORBITAL_URL",
        "ORBITAL_WS",  # the load test's
    }
    named = {
        name: name_of(page)
        for page in reading.documents()
        for name in re.findall(r"\bORBITAL_[A-Z_]*[A-Z]\b", page.read_text("utf-8"))
    }

    assert {name: where for name, where in named.items() if name not in known} == {}


def test_metrics_are_metrics():
    """[DOCS27] Every `orbital_…` that a page names as a metric exists."""
    known = set(
        re.findall(r"^\| `(orbital_\w+)`", (CHECKOUT / "docs/reference/metrics.md").read_text("utf-8"), re.MULTILINE)
    )
    named = {name for page in reading.documents() for name in re.findall(r"`(orbital_\w+)`", page.read_text("utf-8"))}

    assert named - known == set()


def test_commands_are_commands():
    """[DOCS28] Every `orbital …` that a page names or runs is a command."""
    typed = {
        name: name_of(page)
        for page in reading.documents()
        for name in re.findall(r"(?:^|`|\$ |&& |/bin/)orbital ([a-z]+)\b", page.read_text("utf-8"), re.MULTILINE)
    }

    assert {name: where for name, where in typed.items() if name not in cli.COMMANDS and name != "bench"} == {}


def test_floors():
    """[DOCS21] The layers on the architecture page are those that import-linter checks."""
    page = (CHECKOUT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    written = [
        set(re.findall(r"`(\w+)(?:\.py|/)`", row)) for row in re.findall(r"^\| \d+ \| ([^|]*) \|", page, re.MULTILINE)
    ]
    manifest = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    layers = manifest["tool"]["importlinter"]["contracts"][0]["layers"]

    assert written == [set(re.findall(r"\w+", layer)) for layer in layers]


def test_the_page_names_the_wings_that_are_checked():
    """[WINGS2] The wings of the server on the architecture page are those that import-linter checks, in that order."""
    page = (CHECKOUT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    table = page.partition("| wing of `server/`")[2].partition("\n\n")[0]
    written = [
        set(re.findall(r"`(\w+)(?:\.py|/)`", row)) for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    ]
    manifest = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    layers = manifest["tool"]["importlinter"]["contracts"][1]["layers"]

    assert written == [set(re.findall(r"\w+", layer)) for layer in layers]


def test_the_files_of_common_changes_exist():
    """[WHERE1] Each file, folder and setting in the table *Where to change what* exists."""
    page = (CHECKOUT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    table = page.partition("## Where to change what")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w./-]+)`", table.replace("`make docs`", "")))
    places = (CHECKOUT, CHECKOUT / "src" / "orbital_relay", CHECKOUT / "web" / "js")
    settings = set(config.Settings.__struct_fields__)

    assert len(named) > 40
    assert [
        name for name in sorted(named)
        if name not in settings | {"orbital"} and not any((place / name).exists() for place in places)
    ] == []  # fmt: skip
