"""
Make the commit and the tag of a release: `make release VERSION=0.2.0`.

The version goes into the package and the npm packages, the changelog's open chapter gets it with the date, and an
annotated tag carries that chapter. Nothing is pushed: `git push --follow-tags` starts the release workflow.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path.cwd()
INIT: Final = "src/orbital_relay/__init__.py"
PACKAGES: Final = tuple(f"clients/{name}/package.json" for name in ("javascript", "e2ee", "signal"))
LOCKS: Final = tuple(name.replace("package.json", "package-lock.json") for name in PACKAGES)
OPEN: Final = re.compile(r"^## (\S+) \(unreleased\)$", re.MULTILINE)


def git(*args: str) -> str:
    """Run git, and return what it printed."""
    command = ["git", *args]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours


def replaced(name: str, pattern: str, by: str) -> None:
    """
    Replace the first match in a file.

    Raises:
        SystemExit: If there is none.
    """
    path = ROOT / name
    text, count = re.subn(pattern, lambda _: by, path.read_text("utf-8"), count=1)
    if not count:
        sys.exit(f"{name} has no {pattern}.")
    path.write_text(text, "utf-8")


def chapter(text: str, version: str) -> str:
    """Return what the changelog says of a version."""
    after = text.partition(f"## {version} (")[2].partition("\n")[2]
    return re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0].strip()


def main(version: str) -> None:
    """Make the commit and the tag."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        sys.exit(f"{version!r} is not a version such as 0.2.0.")
    if git("status", "--porcelain"):
        sys.exit("There are uncommitted changes; commit or discard them first.")
    if git("tag", "--list", f"v{version}"):
        sys.exit(f"The tag v{version} exists already.")
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    if OPEN.search(text) is None:
        sys.exit("CHANGELOG.md has no chapter `## VERSION (unreleased)`.")
    changelog.write_text(OPEN.sub(f"## {version} ({dt.datetime.now(dt.UTC):%Y-%m-%d})", text, count=1), "utf-8")
    replaced(INIT, r'__version__ = "[^"]*"', f'__version__ = "{version}"')
    for name in (*PACKAGES, *(lock for lock in LOCKS if (ROOT / lock).exists())):
        replaced(name, r'"version": "[^"]*"', f'"version": "{version}"')
    git("commit", "--quiet", "--all", "--message", f"release: {version}.")
    notes = f"Orbital {version}\n\n{chapter(changelog.read_text('utf-8'), version)}\n"
    git("tag", "--annotate", "--cleanup=verbatim", f"v{version}", "--message", notes)
    sys.stdout.write(f"v{version} is tagged; publish it with: git push --follow-tags\n")


if __name__ == "__main__":
    main(*sys.argv[1:2] or [""])
