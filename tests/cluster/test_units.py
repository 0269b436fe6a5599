"""The systemd units: valid for systemd, with exact restrictions, and a backup that can be restored."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orbital_relay.config import load
from tests.support import programs
from tests.support.client import Person
from tests.support.fronts import DEPLOY
from tests.support.process import Program
from tests.support.programs import CHECKOUT
from tests.support.server import Server

UNITS = DEPLOY / "systemd"
SERVICES = ["orbital@.service", "orbital-backup.service"]
WORST = 1.5
"""`systemd-analyze security` of 0 is a unit that may do nothing, 10 one without any limit."""


def unit(name: str) -> configparser.ConfigParser:
    """Read a unit; of a key that stands twice the last counts."""
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str
    read.read(UNITS / name)
    return read


def test_the_server_drains():
    """[UNIT1] The server's unit stops it with SIGTERM, waits longer than the drain, and needs no settings file."""
    service = unit("orbital@.service")["Service"]

    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) > load({}, {}).drain_s * 2
    assert service["EnvironmentFile"].startswith("-")


def test_the_server_notifies():
    """[UNIT6] The server's unit waits for its READY, reads a certificate at a reload, and watches the event loop."""
    service = unit("orbital@.service")["Service"]

    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["WatchdogSec"]) >= 30
    assert "AF_UNIX" in service["RestrictAddressFamilies"]


@pytest.mark.parametrize("name", [*SERVICES, "orbital-backup.timer", "orbital@.socket"])
def test_systemd_finds_no_mistake(name: str, tmp_path: Path):
    """[UNIT2] `systemd-analyze verify` reports nothing except that the program is not installed here."""
    # A template is checked as the unit of one port.
    instance = tmp_path / name.replace("@.", "@3001.")
    for each in UNITS.iterdir():
        (tmp_path / each.name.replace("@.", "@3001.")).write_text(each.read_text())
    checked = subprocess.run(
        [programs.systemd_analyze(), "verify", "--man=no", instance], capture_output=True, text=True
    )
    listed = [line for line in checked.stderr.splitlines() if "orbital" in line and "is not executable" not in line]

    assert listed == []


@pytest.mark.parametrize("name", SERVICES)
def test_the_units_have_minimal_privileges(name: str):
    """[UNIT3] `systemd-analyze security` rates each service as low as possible for a network server."""
    command = [programs.systemd_analyze(), "security", "--offline=true", f"--threshold={WORST * 10:.0f}", UNITS / name]
    checked = subprocess.run(command, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout[-2000:]


def forbidden(name: str) -> set[str]:
    """Return the system calls that a unit's filter takes out of what it allows."""
    analyze = programs.systemd_analyze()
    line = re.search(r"^SystemCallFilter=~(.*)$", (UNITS / name).read_text(), re.MULTILINE)[1]
    calls: set[str] = set()
    waiting = line.split()
    while waiting:
        each = waiting.pop()
        if not each.startswith("@"):
            calls.add(each)
            continue
        listed = subprocess.run([analyze, "syscall-filter", each], capture_output=True, text=True, check=True).stdout
        waiting += [
            word for line in listed.splitlines()[1:] if not line.strip().startswith("#") for word in line.split()
        ]
    return calls


async def test_the_server_makes_no_denied_system_call(tmp_path: Path):
    """[UNIT4] A server that starts, handles accounts, posts and sockets, and stops, makes no denied system call."""
    log = tmp_path / "calls"
    calls = ",".join(f"?{call}" for call in sorted(forbidden("orbital@.service")))
    # -D: the process that the test ends is the server, and strace beside it.
    traced = [programs.strace(), "-D", "-f", "-qq", "-e", f"trace={calls}", "-e", "signal=none", "-o", str(log)]
    server = Server(tmp_path / "data", command=[*traced, sys.executable, "-m", "orbital_relay", "serve"])
    server.start()

    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        async with await ann.listen(group) as socket:
            said = await ann.say(group)
            await socket.until_seq(group, said["seq"])
    assert server.terminate() == 0

    made = log.read_text().splitlines()
    if os.geteuid() == 0:
        # SQLite gives a new file to the owner of its database when it runs as root (os_unix.c, robustFchown).
        made = [line for line in made if " fchown(" not in line]
    assert made == []


def test_the_nightly_backup(server: Server, tmp_path: Path):
    """[UNIT5] The backup unit's command writes one more complete backup and keeps the last 14."""
    line = (UNITS / "orbital-backup.service").read_text().replace("\\\n", "")
    shell = re.search(r"^ExecStart=/bin/sh -euc '(.*)'$", line, re.MULTILINE)[1]
    kept = tmp_path / "backups"
    kept.mkdir()
    for day in range(1, 16):
        (kept / f"2026-01-{day:02}T031700Z.backup").write_text("old")
    for printed, meant in {
        "$$": "$",
        "%%": "%",
        "/opt/orbital/current/bin/orbital": f"{sys.executable} -m orbital_relay",
        "/var/backups/orbital": str(kept),
    }.items():
        assert printed in shell
        shell = shell.replace(printed, meant)
    env = {**os.environ, "ORBITAL_DATA_DIR": str(server.data_dir)}

    done = subprocess.run(["/bin/sh", "-euc", shell], env=env, cwd=CHECKOUT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in kept.iterdir())
    assert len(names) == 14
    assert names[0] == "2026-01-03T031700Z.backup"
    restored = Program(
        [sys.executable, "-m", "orbital_relay", "restore", kept / names[-1], "--data-dir", tmp_path / "restored"]
    )
    assert restored.wait() == 0, restored.text
