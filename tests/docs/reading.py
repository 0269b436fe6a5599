"""The documents as tests read them: which there are, their links, their prose, their examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import CHECKOUT

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$", re.MULTILINE | re.DOTALL
)
_EXAMPLE = re.compile(
    r"<!-- example: (?P<name>[a-z-]+) -->\n+```(?P<kind>[a-z]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def documents() -> list[Path]:
    """Return every page that people read, in order."""
    return [
        *(
            CHECKOUT / name
            for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
        ),
        *sorted((CHECKOUT / "docs").rglob("*.md")),
        *sorted((CHECKOUT / "examples").rglob("*.md")),
        CHECKOUT / "clients" / "javascript" / "README.md",
        CHECKOUT / "spec" / "vectors" / "README.md",
    ]


def without_code(text: str) -> str:
    """Return a page without its blocks of code and its comments, line for line."""

    def blank(found: re.Match[str]) -> str:
        return "\n" * found[0].count("\n")

    return re.sub(r"<!--.*?-->", blank, _FENCE.sub(blank, text), flags=re.DOTALL)


def links(text: str) -> Iterator[str]:
    """Yield where a page's links and pictures lead."""
    yield from re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(text)))


def anchors(text: str) -> set[str]:
    """Return the names of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", without_code(text), re.MULTILINE):
        name = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-"))
    return found


def examples(path: Path) -> dict[str, str]:
    """Return the blocks of a page that are marked `<!-- example: name -->`."""
    return {found["name"]: found["text"] for found in _EXAMPLE.finditer(path.read_text("utf-8"))}


def words(text: str) -> list[str]:
    """Return the words of a page's prose: what is in code, tables' names and numbers is left to be the same."""
    prose = re.sub(r"`[^`\n]*`", " ", without_code(text))
    prose = re.sub(r"\]\([^)]*\)", "] ", prose)
    return re.findall(r"[a-z]+(?:['’][a-z]+)?", prose.lower())
