"""
A machine below a folder, for commands that are typed as root: its own /opt, /etc and /var, and a small systemd.

Only what belongs to the whole machine is replaced: the package manager, accounts, the service manager, where a tag of
the repository and the packages come from. Everything else is the real program.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.process import until
from tests.support.programs import CHECKOUT

_COPIED = ("src", "web", "clients/javascript/src", "deploy", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
"""What of the checkout a tag has that matters for an installation."""

_SYSTEMCTL = r"""
import os, pathlib, re, shlex, signal, socket, subprocess, sys, time
ROOT = pathlib.Path(os.environ["MACHINE"])
def paths(text):
    return re.sub(r"(?<![\w.])/(opt|etc|var|usr/local)/", rf"{ROOT}/\1/", text)
def read(name):
    base, _, instance = name.partition("@")
    file = ROOT / "etc/systemd/system" / (f"{base}@.service" if instance else name)
    text = paths(file.read_text()).replace("\\\n", " ").replace("%%", "%").replace("$$", "$").replace("%i", instance)
    unit = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.isalpha():
            unit[key] = value
    env = {n: v for n, v in os.environ.items() if not n.startswith("ORBITAL_")}
    env.update(word.partition("=")[::2] for word in shlex.split(unit.get("Environment", "")))
    given = pathlib.Path(unit.get("EnvironmentFile", "-").lstrip("-"))
    if given.is_file():
        env.update(line.partition("=")[::2] for line in given.read_text().splitlines() if "=" in line)
    return unit, env
def start(name):
    if name == "caddy":
        command = ["caddy", "run", "--config", str(ROOT / "etc/caddy/Caddyfile"), "--adapter", "caddyfile"]
        return spawn(name, command, dict(os.environ))
    if name.endswith(".timer"):
        service = name.replace(".timer", ".service")
        assert (ROOT / "etc/systemd/system" / service).is_file()
        return
    unit, env = read(name)
    (ROOT / "var/lib" / unit.get("StateDirectory", "orbital")).mkdir(parents=True, exist_ok=True, mode=0o700)
    command = shlex.split(unit["ExecStart"])
    if unit["Type"] == "oneshot":
        sys.exit(subprocess.run(command, env=env).returncode)
    assert unit["Type"] == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = ROOT / "run" / f"{name}.notify"
        path.unlink(missing_ok=True)
        manager.bind(str(path))
        manager.settimeout(60)
        spawn(name, command, {**env, "NOTIFY_SOCKET": str(path)})
        assert manager.recv(4096).startswith(b"READY=1")
def spawn(name, command, env):
    with (ROOT / "run" / f"{name}.log").open("ab") as log:
        made = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (ROOT / "run" / f"{name}.pid").write_text(str(made.pid))
def stop(name):
    file = ROOT / "run" / f"{name}.pid"
    if file.is_file():
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        status = pathlib.Path(f"/proc/{pid}/stat")
        while status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.05)
        file.unlink()
verb, *names = [word for word in sys.argv[1:] if word != "--now"]
for name in names:
    if verb in ("stop", "restart"):
        stop(name)
    if verb in ("start", "restart", "enable"):
        start(name)
"""

_SYSTEMD_RUN = r"""
import os, sys
words, env = sys.argv[1:], {n: v for n, v in os.environ.items() if not n.startswith("ORBITAL_")}
while words[0].startswith("-"):
    word = words.pop(0)
    if word == "-E":
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    elif word == "-p":
        name, _, value = words.pop(0).partition("=")
        if name == "EnvironmentFile" and os.path.exists(value.lstrip("-")):
            env.update(line.rstrip("\n").partition("=")[::2] for line in open(value.lstrip("-")) if "=" in line)
os.execve(words[0], words, env)
"""


class Machine:
    """
    The machine.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bin = root / "bin"
        for folder in (
            "bin",
            "run",
            "opt",
            "etc/systemd/system",
            "etc/caddy",
            "var/lib",
            "var/backups",
            "usr/local/bin",
        ):
            (root / folder).mkdir(parents=True)
        python = sys.executable
        packages = sysconfig.get_path("purelib")
        self._tool("apt-get", "exit 0")
        self._tool("useradd", "exit 0")
        # Files belong to the tests' user.
        self._tool(
            "install",
            "for word; do shift; case $skip$word in yes*) skip=;; -o|-g) skip=yes;; "
            '*) set -- "$@" "$word";; esac; done; '
            'exec /usr/bin/install "$@"',
        )
        for name, source in (("systemctl", _SYSTEMCTL), ("systemd-run", _SYSTEMD_RUN)):
            script = self._bin / f"{name}.py"
            script.write_text(source)
            self._tool(name, f'exec {python} {script} "$@"')
        # An environment finds the packages that Orbital needs in that of the tests.
        self._tool(
            "python3",
            f'{python} "$@"; for last; do :; done; '
            f'echo {packages} > "$(echo "$last"/lib/python*/site-packages)/needed.pth"',
        )
        fetch = root / "bin" / "fetch.py"
        fetch.write_text(_FETCH.format(checkout=str(CHECKOUT), copied=repr(_COPIED)))
        self._tool("git", f'exec {python} {fetch} "$@"')

    def _tool(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def path(self, place: str) -> Path:
        """Return where an absolute path of the machine is."""
        return self.root / place.lstrip("/")

    def type(self, block: str) -> str:
        """
        Run a block as printed, in a shell of its own; return what it printed. Every line has to succeed.

        Raises:
            AssertionError: If one did not.
        """
        block = re.sub(
            r"(?<![\w./-])-?/(opt|etc|var|usr/local)/", lambda found: found[0].replace("/", f"{self.root}/", 1), block
        )
        block = re.sub(r'"/(opt|etc|var)/', rf'"{self.root}/\1/', block)
        env = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("ORBITAL_", "PIP_", "PYTHON"))
            },
            "MACHINE": str(self.root),
            "HOME": str(self.root),
            "PATH": f"{self._bin}:{self.root}/usr/local/bin:{os.environ['PATH']}",
            # pip reads this name as the option itself: 0 builds without fetching the build's packages.
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            env=env,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
        )
        logs = "".join(path.read_text(errors="replace")[-2000:] for path in (self.root / "run").glob("*.log"))
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}\n{logs}"
        return done.stdout

    def close(self) -> None:
        """End what still runs."""
        for file in (self.root / "run").glob("*.pid"):
            pid = int(file.read_text())
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
            until(lambda pid=pid: not _alive(pid), what=f"the end of {file.stem}")  # type: ignore[misc]
        shutil.rmtree(self.root, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody collects after its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


_FETCH = r"""
import pathlib, re, shutil, sys
words = sys.argv[1:]
version, target = words[words.index("--branch") + 1].removeprefix("v"), pathlib.Path(words[-1])
for name in {copied}:
    source = pathlib.Path("{checkout}", name)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    else:
        shutil.copy(source, target / name)
init = target / "src/orbital_relay/__init__.py"
init.write_text(re.sub(r'__version__ = "[^"]*"', f'__version__ = "{{version}}"', init.read_text()))
"""
