"""The manual page and the completion of shells, both made from the commands themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orbital_relay import cli
from tests.support.programs import find, missing


def printed(*args: str) -> str:
    """Return what a command prints."""
    done = subprocess.run([sys.executable, "-m", "orbital_relay", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_manual_page():
    """[MANUAL1] groff accepts the manual page without a warning, and it has every command with its options."""
    groff = find("groff") or missing("groff", remedy="apt-get install groff-base")
    command = [groff, "-man", "-ww", "-z", "-Tutf8", "-Kutf8"]
    source = printed("man")
    checked = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    shown = subprocess.run(
        [groff, "-man", "-Tascii", "-P-c", "-Kutf8"], input=source, capture_output=True, text=True, check=True
    )

    assert checked.stderr == ""
    for name in cli.COMMANDS:
        assert f"orbital {name}" in shown.stdout.replace("\n", " "), name
    for option in ("--data-dir", "--tls-cert", "--media", "--redirect-port"):
        assert option in shown.stdout, option


@pytest.mark.parametrize("typed, offered", [("orbital heal", "health"), ("orbital backup --fo", "--force")])
def test_completion_in_bash(tmp_path: Path, typed: str, offered: str):
    """[MANUAL2] In bash the printed script completes commands and options."""
    bash = find("bash") or missing("bash", remedy="apt-get install bash")
    script = tmp_path / "completion"
    script.write_text(printed("completion", "bash"))
    program = tmp_path / "orbital"
    run = "from orbital_relay.cli import main; main(prog_name='orbital')"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{run}" "$@"\n')
    program.chmod(0o755)
    words = typed.split()
    ask = (
        f". {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; PATH={tmp_path}:$PATH; "
        '_orbital_completion orbital; printf "%s\\n" "${COMPREPLY[@]}"'
    )

    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=False)

    assert done.stdout.split() == [offered], done.stderr


@pytest.mark.parametrize(
    "shell, sign", [("zsh", "#compdef orbital"), ("fish", "complete --no-files --command orbital")]
)
def test_completion_in_other_shells(shell: str, sign: str):
    """[MANUAL3] zsh and fish have scripts of their own."""
    assert sign in printed("completion", shell)
