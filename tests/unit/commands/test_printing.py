"""Commands print through one module, which escapes control characters."""

from __future__ import annotations

import ast
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orbital_relay import cli
from tests.support.programs import CHECKOUT

SOURCE = CHECKOUT / "src" / "orbital_relay"
MODULES = sorted([*(SOURCE / "commands").glob("*.py"), SOURCE / "cli.py"])
PRINTERS = {"echo", "secho", "echo_via_pager", "print", "pprint", "print_json", "writelines", "log"}
EVIL = "\x1b]0;owned\x07\x1b[2Jeve"


def printed_elsewhere(source: str) -> list[int]:
    """Return the lines of a module that print otherwise than through `terminal`."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (
            getattr(node.func, "attr", getattr(node.func, "id", "")) in PRINTERS
            or ast.unparse(node.func) in {"sys.stdout.write", "sys.stderr.write", "os.write"}
        )
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_one_function_prints(module: Path) -> None:
    """[PRINT1] Commands print only through `commands/terminal.py`, which escapes control characters."""
    expected = 4 if module.name == "terminal.py" else 0

    assert len(printed_elsewhere(module.read_text("utf-8"))) == expected


@pytest.mark.parametrize(
    "line", ["click.echo(name)", "print(name)", "console.print(name)", "sys.stderr.write(name)", "click.secho(name)"]
)
def test_other_output_functions_are_detected(line: str) -> None:
    """[PRINT2] The check detects every other way to print."""
    assert printed_elsewhere(line) == [1]


def test_errors_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """[PRINT3] An error message that quotes foreign text is escaped before it is printed; its newlines are kept."""

    @click.command("health")
    def failing() -> None:
        raise click.ClickException(f"There is no user {EVIL}.\nTry another.")

    monkeypatch.setattr(cli._Lazy, "get_command", lambda *_: failing)
    done = CliRunner().invoke(cli.main, ["health"])

    assert done.exit_code == 1
    assert done.output == "Error: There is no user \\x1b]0;owned\\x07\\x1b[2Jeve.\nTry another.\n"
