"""Where the server can be installed: Pythons, processors and C libraries with wheels, and a read-only checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.process import Program
from tests.support.programs import CHECKOUT, find, missing

PLATFORMS = (
    *("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"),
    *("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"),
    "aarch64-apple-darwin",
)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_every_dependency_has_a_wheel(platform: str, python: str):
    """[WHEELS1] On 64-bit Linux (glibc and musl) and macOS the locked server needs no compiler, Python 3.11 to 3.14."""
    uv = find("uv", also=(str(Path(sys.executable).parent / "uv"),))
    if uv is None:
        missing("uv", remedy="make dev")
    command = [
        *(uv, "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-header", "--no-annotate"),
        *("--python-platform", platform, "--python-version", python, "requirements/run.txt"),
    ]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    if done.returncode != 0 and re.search(r"(?i)connect|dns|network|timed out", done.stderr):
        missing("a package index", remedy="connect to the network")

    assert done.returncode == 0, done.stderr
    assert {"argon2-cffi", "uvloop", "asyncpg"} <= {line.partition("==")[0] for line in done.stdout.splitlines()}


def test_the_pages_ask_for_64_bits():
    """[WHEELS2] Where no wheels exist, on 32-bit systems, the pages ask for a 64-bit system before the install."""
    for page in ("README.md", "docs/how-to/for-your-family.md", "docs/how-to/deploy-a-cluster.md"):
        text = (CHECKOUT / page).read_text()
        assert 0 < text.index("64-bit") < re.search(r"make run|pip install", text).start(), page  # type: ignore[union-attr]


def test_a_read_only_checkout(tmp_path: Path):
    """[READONLY1] `make run` serves from a checkout that cannot be written to, with the folders that it names."""
    checkout = tmp_path / "checkout"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if name.startswith("tests/") or not (CHECKOUT / name).is_file():
            continue
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, checkout / name)
        # Older than the environment: make must not install this copy into the environment of the tests.
        os.utime(checkout / name, (0, 0))
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*")}
    for path in (checkout, *before):
        path.chmod(path.stat().st_mode & ~0o222)
    # Root ignores the mode of a file unless it drops that capability.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if subprocess.run([*drop, "touch", checkout / "file"], capture_output=True).returncode == 0:
        missing("a user without write access", remedy="run the tests as another user than root")

    env = {name: text for name, text in os.environ.items() if not name.startswith("ORBITAL_")}
    venv, data = Path(sys.executable).parent.parent, tmp_path / "data"
    if not (venv / ".stamp-run").exists():
        missing("the environment that make creates", remedy="make dev")
    program = Program(
        [*drop, "make", "run", f"VENV={venv}"],
        env={**env, "ORBITAL_DATA_DIR": str(data), "PORT": "0", "PYTHONPATH": str(checkout / "src")},
        cwd=checkout,
    )
    try:
        port = program.wait_for(r"http://[^\s/:]+:(\d+)", deadline_s=120)[1]
        assert httpx.get(f"http://localhost:{port}/health/ready").status_code == 200
    finally:
        program.terminate()

    assert {path: path.stat().st_mtime_ns for path in checkout.rglob("*")} == before
    assert (data / "orbital.db").is_file()
