"""Which database a command uses: it is named, and a mistyped folder gets no new one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from orbital_relay import cli

ARGUMENTS: Final = {
    "serve": None,  # Runs until it is stopped; tests/server starts it, and its greeting names the database.
    "user add": ["eve"],
    "user list": [],
    "user show": ["eve"],
    "user password": ["eve"],
    "user rename": ["eve", "eva"],
    "user disable": ["eve"],
    "user enable": ["eve"],
    "user delete": ["eve", "--yes"],
    "group delete": ["00000000-0000-4000-8000-000000000000", "--yes"],
    "group list": [],
    "group show": ["00000000-0000-4000-8000-000000000000"],
    "user invite": [],
    "user invitations": [],
    "user revoke": ["eve"],
    "token": ["eve"],
    "media gc": [],
    "migrate": [],
    "check": [],
    "config": None,  # Shows settings, and opens no database.
    "clock": [],
    "backup": ["{outside}/new.backup"],
    "restore": ["{outside}/old.backup"],
}
"""Arguments with which each command that uses a database runs; `{outside}` is a folder of the test's own."""

NEED_A_GROUP: Final = {"group delete", "group show"}
"""Commands that succeed only with a group, which no command makes; tests/server/test_people.py runs them."""

CREATORS: Final = {"serve", "migrate", "restore"}
"""Commands whose purpose is to fill an empty place."""


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command of the table with its full name, without the groups themselves."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def orbital(name: str, folder: Path, outside: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a data folder."""
    given = [each.format(outside=outside) for each in ARGUMENTS[name] or []]
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", *name.split(), *given, *more, "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        input="Correct-Horse-7\n",
        env={key: value for key, value in os.environ.items() if not key.startswith(("ORBITAL_", "DATABASE_"))},
    )


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backup of an empty database."""
    folder = tmp_path_factory.mktemp("outside")
    orbital("migrate", folder / "data", folder)
    orbital("backup", folder / "data", folder)
    (folder / "new.backup").rename(folder / "old.backup")
    return folder


def test_the_list_is_complete() -> None:
    """[DBNAME1] The list in this file contains every command that has the option --database-url."""
    using = [name for name, command in commands(cli.main) if any(p.name == "database_url" for p in command.params)]

    assert sorted(using) == sorted(ARGUMENTS)


@pytest.mark.parametrize(
    "name", [name for name, given in ARGUMENTS.items() if given is not None and name not in NEED_A_GROUP]
)
def test_the_database_is_named(name: str, tmp_path: Path, outside: Path) -> None:
    """[DBNAME2] A command prints the database that it uses to standard error first, on success too."""
    if name not in CREATORS:
        orbital("migrate", tmp_path, outside)
    if "eve" in (ARGUMENTS[name] or []) and name != "user add":
        orbital("user add", tmp_path, outside)

    done = orbital(name, tmp_path, outside)

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"Database: {tmp_path / 'orbital.db'}"


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - CREATORS))
def test_a_wrong_folder_stays_empty(name: str, tmp_path: Path, outside: Path) -> None:
    """[DBNAME3] In a folder without a database a command fails, names the missing database, and creates nothing."""
    before = sorted(outside.rglob("*"))

    done = orbital(name, tmp_path / "typo", outside)

    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: There is no database at {tmp_path / 'typo' / 'orbital.db'}.")
    assert list(tmp_path.iterdir()) == []
    assert sorted(outside.rglob("*")) == before


def test_a_wrong_folder_gets_no_secret(tmp_path: Path, outside: Path) -> None:
    """[DBNAME4] `token --outside` in a folder without a secret fails and creates none; otherwise it names the file."""
    wrong = orbital("token", tmp_path / "typo", outside, "--outside")
    (tmp_path / "jwt-secret").write_text("s" * 48)
    (tmp_path / "jwt-secret").chmod(0o600)
    right = orbital("token", tmp_path, outside, "--outside")

    assert wrong.returncode == 1
    assert wrong.stderr.startswith(f"Error: There is no secret at {tmp_path / 'typo' / 'jwt-secret'}.")
    assert not (tmp_path / "typo").exists()
    assert right.returncode == 0, right.stderr
    assert right.stderr == f"Secret: {tmp_path / 'jwt-secret'}\n"
