"""Which database a command uses: it is named, and a mistyped folder gets no new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner, Result

from orbital_relay import cli

ARGUMENTS: Final = {
    "serve": None,  # Runs until it is stopped; tests/server starts it, and its greeting names the database.
    "user add": ["eve"],
    "user list": [],
    "user show": ["eve"],
    "user password": ["eve"],
    "user reset": ["eve"],
    "user promote": ["eve"],
    "user demote": ["eve"],
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
    "vacuum": [],
    "config": None,  # Shows settings, and opens no database.
    "doctor": None,  # Reports a database that it cannot open; tests/server/test_doctor.py runs it.
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


def orbital(name: str, folder: Path, outside: Path, *more: str) -> Result:
    """Run a command on a data folder, in this process: a command needs a second to import what a server needs."""
    given = [each.format(outside=outside) for each in ARGUMENTS[name] or []]
    umask = os.umask(0o022)
    try:
        return CliRunner().invoke(
            cli.main,
            [*name.split(), *given, *more, "--data-dir", str(folder)],
            input="Correct-Horse-7\n",
            env={key: None for key in os.environ if key.startswith(("ORBITAL_", "DATABASE_"))},
        )
    finally:
        os.umask(umask)  # a command sets its own


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backup of an empty database, an empty database, and one with the user eve."""
    folder = tmp_path_factory.mktemp("outside")
    orbital("migrate", folder / "data", folder)
    orbital("backup", folder / "data", folder)
    (folder / "new.backup").rename(folder / "old.backup")
    shutil.copytree(folder / "data", folder / "with eve")
    orbital("user add", folder / "with eve", folder)
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
    folder = tmp_path / "data"
    if name not in CREATORS:
        with_eve = "eve" in (ARGUMENTS[name] or []) and name != "user add"
        shutil.copytree(outside / ("with eve" if with_eve else "data"), folder)

    done = orbital(name, folder, outside)

    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[0] == f"Database: {folder / 'orbital.db'}"


@pytest.mark.parametrize("name", sorted({name for name, given in ARGUMENTS.items() if given is not None} - CREATORS))
def test_a_wrong_folder_stays_empty(name: str, tmp_path: Path, outside: Path) -> None:
    """[DBNAME3] In a folder without a database a command fails, names the missing database, and creates nothing."""
    before = sorted(outside.rglob("*"))

    done = orbital(name, tmp_path / "typo", outside)

    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: There is no database at {tmp_path / 'typo' / 'orbital.db'}.")
    assert list(tmp_path.iterdir()) == []
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize("name", ["config", "doctor"])
def test_looking_creates_nothing(name: str, tmp_path: Path, outside: Path) -> None:
    """[DBNAME5] A command that only shows settings or findings creates no folder either."""
    orbital(name, tmp_path / "typo", outside)

    assert list(tmp_path.iterdir()) == []


def test_a_wrong_folder_gets_no_secret(tmp_path: Path, outside: Path) -> None:
    """[DBNAME4] `token --outside` in a folder without a secret fails and creates none; otherwise it names the file."""
    wrong = orbital("token", tmp_path / "typo", outside, "--outside")
    (tmp_path / "jwt-secret").write_text("s" * 48)
    (tmp_path / "jwt-secret").chmod(0o600)
    right = orbital("token", tmp_path, outside, "--outside")

    assert wrong.exit_code == 1
    assert wrong.stderr.startswith(f"Error: There is no secret at {tmp_path / 'typo' / 'jwt-secret'}.")
    assert not (tmp_path / "typo").exists()
    assert right.exit_code == 0, right.stderr
    assert right.stderr == f"Secret: {tmp_path / 'jwt-secret'}\n"


def test_every_command_on_people_has_json():
    """[OUTCOME2] Every command of `orbital user` and `orbital group` has `--json`."""
    without = {
        name
        for name, command in commands(cli.main)
        if name.startswith(("user ", "group ")) and not any("--json" in each.opts for each in command.params)
    }

    assert without == set()
