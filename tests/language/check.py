"""
Check that the tree speaks the field's English: no construction of `table.toml` in source, tests or documents.

Run by `make lint`. Prints one finding a line, as `file:line: "what was found": say …`, and ends with status 1 if there
is one. Arguments are paths to look at; without any, the whole tree.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.toml")
SUFFIXES = (".py", ".js", ".mjs", ".cjs", ".css", ".html", ".md", ".toml", ".yaml", ".yml", ".conf", ".service", ".c")
QUOTED = "language: quoted"
"""A line that ends with this quotes a construction on purpose."""
LEFT_OUT = (
    "tests/language/",  # the table itself
    "web/vendor/",  # written by others
    "tests/RULES.md",  # made from the tests' docstrings
    "docs/reference/command-line.md",  # these four are made from sources that are checked
    "docs/reference/http.md",
    "docs/reference/settings.md",
    "clients/javascript/src/api-types.js",
)


def constructions() -> list[tuple[re.Pattern[str], str]]:
    """Return the table: what is looked for, and what to say instead."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))["construction"]
    return [(re.compile(row["pattern"]), row["instead"]) for row in rows]


def tracked(paths: Iterable[str]) -> Iterator[Path]:
    """Yield the text files below `paths` (the whole tree if empty) that git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in sorted(set(listed.split("\0"))):
        path = ROOT / name
        if name.endswith(SUFFIXES) and not name.startswith(LEFT_OUT) and path.is_file():
            yield path


def findings(path: Path, table: list[tuple[re.Pattern[str], str]]) -> Iterator[str]:
    """Yield one sentence for each construction that stands in a file."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if QUOTED in line:
            continue
        for pattern, instead in table:
            if found := pattern.search(line):
                yield f'{path.relative_to(ROOT)}:{number}: "{found[0]}": say {instead}'


def main(paths: list[str]) -> int:
    """Print every finding, and return the status of the process."""
    table = constructions()
    found = [finding for path in tracked(paths) for finding in findings(path, table)]
    for finding in found:
        print(finding)
    print(f"{len(found)} findings." if found else "No findings.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
