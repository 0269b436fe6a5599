"""docs/reference/settings.md, made from the table: there is no second list."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from orbital_relay.config.settings import OPTIONS, Option


def reference() -> str:
    """Write docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "<!-- Made by `python -m orbital_relay.config.reference` from src/orbital_relay/config/settings.py. -->",
        "",
        "Each setting is a flag of `orbital serve` and an environment variable.",
        "A flag goes before the environment, the environment before the default.",
        "An empty variable counts as not set; an empty `JWT_SECRET` is refused.",
        "A value that is not allowed stops the server before it listens, with a sentence that says what would do.",
    ]
    chapters: dict[str, list[Option]] = {}
    for option in OPTIONS:
        chapters.setdefault(option.chapter, []).append(option)
    for chapter, rows in chapters.items():
        lines += ["", f"## {chapter}", ""]
        lines += _reference_rows(rows)
    return "\n".join(lines) + "\n"


def _reference_rows(rows: Iterable[Option]) -> list[str]:
    lines = ["| variable, flag | what it does | allowed | default | why |", "| --- | --- | --- | --- | --- |"]
    for option in rows:
        cells = (
            f"`{option.env}` `{option.flag}`",
            option.about,
            option.kind.allowed,
            option.default,
            option.why,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


if __name__ == "__main__":
    sys.stdout.write(reference())
