"""The command `orbital`: its subcommands, and what it says when one cannot be loaded."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orbital_relay import cli


def test_help_lists_every_subcommand():
    """[CMDLOAD1] The help lists each subcommand, and loads none."""
    shown = CliRunner().invoke(cli.main, ["--help"])

    lines = shown.output.partition("Commands:")[2].partition("Examples:")[0].splitlines()
    assert shown.exit_code == 0
    assert [line.split()[0] for line in lines if line.strip()] == list(cli.COMMANDS)


def _failing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Let the import of a subcommand fail for a module that is missing."""

    def load(_name: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(cli, "import_module", load)


def test_a_dependency_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    """[CMDLOAD2] A subcommand says what is not installed and how to install it; a missing module of ours is a fault."""
    _failing(monkeypatch, "uvicorn")
    refused = CliRunner().invoke(cli.main, ["man"])
    assert refused.exit_code == 1
    assert "uvicorn is not installed: pip install 'orbital-relay[server]'" in refused.output

    _failing(monkeypatch, "orbital_relay.x")
    assert isinstance(CliRunner().invoke(cli.main, ["man"]).exception, ModuleNotFoundError)
