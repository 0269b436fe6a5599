"""The release script, in a repository of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import CHECKOUT

_PACKAGES = ("javascript", "e2ee", "signal")
_COPIED = ("CHANGELOG.md", "src/orbital_relay/__init__.py", *(f"clients/{name}/package.json" for name in _PACKAGES))
_PERSON = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *args: str) -> str:
    """Run git in a repository, and return what it printed."""
    command = ["git", "-c", "init.defaultBranch=main", *args]
    env = {**os.environ, **_PERSON}
    return subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


def release(folder: Path, version: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a repository."""
    command = [sys.executable, CHECKOUT / "tools" / "release.py", version]
    return subprocess.run(command, cwd=folder, env={**os.environ, **_PERSON}, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the files of this one that a release changes."""
    for name in _COPIED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "before")
    return tmp_path


def test_a_release(repository: Path):
    """[RELEASE1] A release sets the version everywhere, dates the changelog, and tags it with what changed."""
    done = release(repository, "7.8.9")
    packages = [json.loads((repository / name).read_text()) for name in _COPIED if name.endswith(".json")]
    message = git(repository, "tag", "--list", "--format=%(contents)", "v7.8.9")

    assert done.returncode == 0, done.stderr
    assert '__version__ = "7.8.9"' in (repository / "src/orbital_relay/__init__.py").read_text()
    assert {package["version"] for package in packages} == {"7.8.9"}
    assert re.search(r"^## 7\.8\.9 \(\d{4}-\d\d-\d\d\)$", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert message.startswith("Orbital 7.8.9\n")
    assert "### For people who run it" in message
    assert git(repository, "status", "--porcelain") == ""


def test_what_stops_a_release(repository: Path):
    """[RELEASE2] A malformed version, an existing tag, no news and uncommitted changes stop a release."""
    assert "is not a version" in release(repository, "v1").stderr
    (repository / "stray").write_text("x")
    assert "uncommitted changes" in release(repository, "1.0.0").stderr
    (repository / "stray").unlink()
    assert release(repository, "1.0.0").returncode == 0
    assert "exists already" in release(repository, "1.0.0").stderr
    assert "no chapter" in release(repository, "1.0.1").stderr
