"""The runner of a fresh machine: it installs what the tests ask for, and starts no service."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support import programs
from tests.support.programs import CHECKOUT

RUN = CHECKOUT / ".ci" / "run"


def test_every_program_is_installed():
    """[CIRUN1] Each Debian package that a skipped test names as its remedy is installed by .ci/run."""
    listed = set(re.search(r'^programs="\n(.*?)^"', RUN.read_text(), re.MULTILINE | re.DOTALL)[1].split())
    remedies = {
        package
        for path in (CHECKOUT / "tests").rglob("*.py")
        for found in re.findall(r'remedy="[^"]*apt-get install ([a-z0-9 -]+)', path.read_text("utf-8"))
        for package in found.split()
    }

    assert remedies >= {"chromium", "nginx", "haproxy", "caddy", "apache2", "redis-server", "gcc"}
    assert remedies - listed == set()


def test_completeness_has_its_own_variable():
    """[CIRUN2] No test reads `CI`, which every hosted runner sets; .ci/run uses a variable of the project."""
    readers = [
        path.relative_to(CHECKOUT).as_posix()
        for folder in ("tests", "clients", "web", "examples", "bench")
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in {".py", ".js", ".mjs"} and "node_modules" not in path.parts and path != Path(__file__)
        if re.search(r"env(?:iron)?(?:\.get\(|\.|\[)['\"]?CI\b", path.read_text("utf-8"))
    ]

    assert readers == []
    assert 'export ORBITAL_TESTS_COMPLETE="${ORBITAL_TESTS_COMPLETE:-1}"' in RUN.read_text()


def test_missing_programs_are_installed_without_being_started(tmp_path: Path):
    """[CIRUN3] As root .ci/run installs only what is missing, keeps apt from starting it, and runs make test."""
    tools, policy, said = tmp_path / "bin", tmp_path / "policy-rc.d", tmp_path / "said"
    tools.mkdir()
    for name, does in {
        "apt-get": f'echo "apt-get $@" >>{said}; [ "$1" = update ] || "{policy}" || echo "refused $?" >>{said}',
        "make": f'echo "make $@ $ORBITAL_TESTS_COMPLETE" >>{said}',
        "id": "echo 0",
        "nginx": "",
        "gcc": "",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    for name in ("env", "bash", "sh", "dirname", "rm", "chmod"):
        (tools / name).symlink_to(programs.find(name))
    script = RUN.read_text().replace("/usr/sbin/policy-rc.d", str(policy)).replace(":/usr/sbin:/sbin", "")
    copy = tmp_path / "checkout" / ".ci" / "run"
    copy.parent.mkdir(parents=True)
    copy.write_text(script)
    env = {name: value for name, value in os.environ.items() if name != "ORBITAL_TESTS_COMPLETE"}

    done = subprocess.run(["bash", copy], env={**env, "PATH": str(tools)}, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    lines = said.read_text().splitlines()
    assert lines[0] == "apt-get update -qq"
    assert lines[1].startswith("apt-get install -y -qq --no-install-recommends chromium redis-server haproxy")
    assert not {"nginx", "gcc"} & set(lines[1].split())
    assert lines[2:] == ["refused 101", "make test 1"]
    assert not policy.exists()


def test_make_says_why_there_is_no_environment(tmp_path: Path):
    """[CIRUN4] Where the environment cannot be created, make reports the cause and the remedy."""
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "venv"

    done = subprocess.run(["make", "run", f"VENV={place}"], cwd=CHECKOUT, capture_output=True, text=True)

    assert done.returncode != 0
    assert "Not a directory" in done.stderr
    assert f"could not make {place}" in done.stderr
    assert "VENV=~/orbital-venv ORBITAL_DATA_DIR=~/orbital-data make run" in done.stderr
    assert "apt-get" not in done.stderr


def test_make_says_when_venv_is_missing(tmp_path: Path):
    """[CIRUN5] For a Python without the module venv, as in Debian, make names the package that provides it."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac\n')
    python.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    done = subprocess.run(
        ["make", "run", f"VENV={tmp_path}/venv"],
        cwd=CHECKOUT, env={**os.environ, "PATH": path}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr
