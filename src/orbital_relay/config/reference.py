"""docs/reference/settings.md, generated from the table of settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from orbital_relay.config.settings import OPTIONS, Option
from orbital_relay.config.sources import CONFIG_ENV


def reference() -> str:
    """Write docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "<!-- Made by `python -m orbital_relay.config.reference` from src/orbital_relay/config/settings.py. -->",
        "",
        "Each setting is an option of `orbital serve`, an environment variable, and a key of a configuration file.",
        "An option overrides the environment, the environment the file, the file the default.",
        "`orbital config` shows every setting in effect and where it was given; secrets are masked.",
        "An empty variable counts as not set; an empty `JWT_SECRET` is refused.",
        "A value that is not allowed stops the server before it listens, with a sentence that says what is allowed.",
        "",
        "## The configuration file",
        "",
        f"`--config FILE`, or `{CONFIG_ENV}`, names a TOML file. Its keys are the options without the dashes in front:",
        "",
        "```toml",
        'host = "0.0.0.0"',
        "port = 8080",
        'data-dir = "/var/lib/orbital"',
        'trusted-proxies = ["127.0.0.1", "10.0.0.0/8"]',
        'jwt-secret-file = "/etc/orbital/jwt-secret"',
        "```",
        "",
        "`data_dir` and `ORBITAL_DATA_DIR` mean `data-dir`.",
        "A key that is not a setting is refused, with the name that is nearest.",
        "A variable that begins with `ORBITAL_` and is not a setting is a warning at the start.",
        "",
        "## Secrets in files",
        "",
        f"{', '.join(f'`{option.env}`' for option in OPTIONS if option.secret)} can each be given as a file:",
        f"{', '.join(f'`{option.file_env}`' for option in OPTIONS if option.secret)} name it.",
        "Container runtimes and systemd provide secrets as files.",
        "A line feed at the end is not part of the secret. A secret that is given in both ways is refused.",
    ]
    chapters: dict[str, list[Option]] = {}
    for option in OPTIONS:
        chapters.setdefault(option.chapter, []).append(option)
    for chapter, rows in chapters.items():
        lines += ["", f"## {chapter}", ""]
        lines += _reference_rows(rows)
    return "\n".join(lines) + "\n"


def _reference_rows(rows: Iterable[Option]) -> list[str]:
    lines = ["| variable, option | what it does | allowed | default | why |", "| --- | --- | --- | --- | --- |"]
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
