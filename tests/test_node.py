"""The oldest Node of the JavaScript packages, and the one that the tests install where the machine's is older."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.programs import CHECKOUT, numbers
from tests.test_house import files

ROOT = json.loads((CHECKOUT / "package.json").read_text("utf-8"))
OLDEST = numbers(ROOT["engines"]["node"])


def test_every_package_names_the_same_oldest_node():
    """[NODE1] The `engines` of all packages are equal, and the Node that the tests install satisfies them."""
    manifests = {str(path.relative_to(CHECKOUT)): json.loads(path.read_text("utf-8")) for path in files("package.json")}
    pinned = {name: numbers(version) for name, version in ROOT["optionalDependencies"].items()}

    assert len(manifests) >= 6
    assert {manifest["engines"]["node"] for manifest in manifests.values()} == {ROOT["engines"]["node"]}
    assert {re.sub(r"^node-(bin-)?", "", name) for name in pinned} == {
        f"{system}-{processor}" for system in ("darwin", "linux") for processor in ("arm64", "x64")
    }
    assert all(version[0] == OLDEST[0] and version >= OLDEST for version in pinned.values())


def test_an_older_node_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[NODE2] A Node on PATH that is older than `engines` is not used by the Python tests."""
    older = tmp_path / "node"
    older.write_text(f"#!/bin/sh\necho v{OLDEST[0]}.{OLDEST[1] - 1}.0\n")
    older.chmod(0o755)
    monkeypatch.setattr(programs, "CHECKOUT", tmp_path)
    (tmp_path / "package.json").write_text(json.dumps(ROOT))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("ORBITAL_TESTS_COMPLETE", raising=False)

    with pytest.raises(pytest.skip.Exception, match=f"Node {ROOT['engines']['node'][2:]} or later is missing"):
        programs.node()
    older.write_text(f"#!/bin/sh\necho v{OLDEST[0] + 1}.0.0\n")
    assert programs.node() == str(older)


def test_make_installs_a_node_where_the_machine_has_an_older_one(node: str):
    """[NODE3] The condition in the Makefile is false for an older Node than `engines` names and true for others."""
    condition = re.search(
        r"^NODE_SUFFICES := (.*?)(?<!\\)\n", (CHECKOUT / "Makefile").read_text(), re.MULTILINE | re.DOTALL
    )
    script = condition[1].replace("\\\n", " ")

    def suffices(version: str) -> bool:
        asked = script.replace("process.versions.node", json.dumps(version))
        return subprocess.run([node, "-e", asked], cwd=CHECKOUT, timeout=60).returncode == 0

    major, minor = OLDEST
    versions = [f"{major - 2}.99.9", f"{major}.{minor - 1}.9", f"{major}.{minor}.0", f"{major + 1}.0.0"]
    assert [suffices(version) for version in versions] == [False, False, True, True]
