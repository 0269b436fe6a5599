"""Find programs of the machine; a missing one skips the test, or fails it where completeness is asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def missing(what: str, *, remedy: str) -> NoReturn:
    """
    Skip the test that asks, or fail it where `ORBITAL_TESTS_COMPLETE=1` says that nothing may be missing.

    Not `CI`: every hosted CI sets that, also for a fork that has neither the programs nor the documents.

    Args:
        what: The thing that is not here, as "nginx".
        remedy: What brings it, as "apt-get install nginx".
    """
    line = f"{what} is missing; {remedy}"
    if os.environ.get("ORBITAL_TESTS_COMPLETE") == "1":
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


def find(*names: str, also: tuple[str, ...] = ()) -> str | None:
    """Return the first of `names` that is on PATH, else the first of the paths `also` that can be run."""
    for name in names:
        if found := shutil.which(name):
            return found
    return next((path for path in also if os.access(path, os.X_OK)), None)


def chromium() -> str:
    """Return the path of a Chromium (or Chrome) that starts; `ORBITAL_CHROMIUM` names another."""
    found = find(
        os.environ.get("ORBITAL_CHROMIUM", "chromium"),
        "chromium-browser",
        "google-chrome",
        also=("/usr/bin/chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    )
    return found or missing("Chromium", remedy="apt-get install chromium")


def nginx() -> str:
    """Return the path of an nginx; Debian keeps it in a place that only root's PATH has."""
    found = find("nginx", also=("/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx"))
    return found or missing("nginx", remedy="apt-get install nginx")


def haproxy() -> str:
    """Return the path of an HAProxy."""
    return find("haproxy", also=("/usr/sbin/haproxy",)) or missing("HAProxy", remedy="apt-get install haproxy")


def caddy() -> str:
    """Return the path of a Caddy 2."""
    return find("caddy", also=("/usr/bin/caddy",)) or missing("Caddy", remedy="apt-get install caddy")


def apache() -> str:
    """Return the path of an Apache httpd; Debian calls it apache2."""
    found = find("apache2", "httpd", also=("/usr/sbin/apache2", "/usr/sbin/httpd"))
    return found or missing("Apache", remedy="apt-get install apache2")


def systemd_analyze() -> str:
    """Return the path of systemd's checker of units; it needs no running systemd."""
    return find("systemd-analyze") or missing("systemd-analyze", remedy="apt-get install systemd")


def openssl() -> str:
    """Return the path of openssl's command line."""
    return find("openssl") or missing("openssl", remedy="apt-get install openssl")


def strace() -> str:
    """Return the path of a strace that may trace: some containers forbid it."""
    found = find("strace")
    if found is None or subprocess.run([found, "-qq", "true"], capture_output=True, check=False).returncode != 0:
        return missing("strace, or the right to trace", remedy="apt-get install strace")
    return found


def numbers(version: str) -> list[int]:
    """Return major and minor number of a version, as of "v22.12.0" or ">=22.12"."""
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


def node() -> str:
    """Return the path of a Node that `engines` allows: the machine's, else the one that `make dev` installs then."""
    wanted = json.loads((CHECKOUT / "package.json").read_text("utf-8"))["engines"]["node"].removeprefix(">=")
    for found in (find("node", "nodejs"), find(also=(str(CHECKOUT / "node_modules" / ".bin" / "node"),))):
        if found is not None:
            said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
            if numbers(said) >= numbers(wanted):
                return found
    return missing(f"Node {wanted} or later", remedy="`make dev`, or see https://nodejs.org/")


def node_package(folder: Path, package: str) -> Path:
    """Return the place of an installed npm `package` of the project in `folder`."""
    place = folder / "node_modules" / package
    if not place.is_dir():
        missing(f"the npm package {package}", remedy=f"`make dev`, or npm ci in {folder.relative_to(CHECKOUT)}")
    return place


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago; for programs that cannot be given port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def readable_by_others(path: Path) -> bool:
    """Return whether another user may go down to `path`: every folder above must let it through."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def fail2ban_regex() -> str:
    """Return the path of fail2ban's tester of filters."""
    return find("fail2ban-regex") or missing("fail2ban-regex", remedy="apt-get install fail2ban")


def prometheus() -> str:
    """Return the path of a Prometheus."""
    return find("prometheus") or missing("Prometheus", remedy="apt-get install prometheus")


def promtool() -> str:
    """Return the path of Prometheus' checker of rules and metrics."""
    return find("promtool") or missing("promtool", remedy="apt-get install prometheus")
