"""The sdist and the wheel as an index, a stranger's pip and an auditor meet them."""

from __future__ import annotations

import email.parser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import orbital_relay
from tests.docs import reading
from tests.support.programs import CHECKOUT

BIN = Path(sys.executable).parent


def build(source: Path, to: Path) -> dict[str, Path]:
    """Build both archives of `source`; return them by their suffix."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", to], cwd=source, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {path.suffix: path for path in to.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both archives of this checkout."""
    return build(CHECKOUT, tmp_path_factory.mktemp("dist"))


def metadata(wheel: Path) -> email.message.Message:
    """Return the METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(opened.read(name).decode())


def test_package_checks_pass(built: dict[str, Path]):
    """[DIST1] twine and check-wheel-contents report nothing."""
    for command in (["twine", "check", "--strict", *built.values()], ["check-wheel-contents", built[".whl"]]):
        done = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_one_version_and_our_own_name(built: dict[str, Path]):
    """[DIST2] Name, version, authors, addresses and Pythons are the project's; the version is defined once."""
    fields = metadata(built[".whl"])
    package = json.loads((CHECKOUT / "clients" / "javascript" / "package.json").read_text())

    assert fields["Name"] == "orbital-relay"
    assert fields["Version"] == orbital_relay.__version__ == package["version"]
    assert fields["Author"]
    assert len(fields.get_all("Project-URL")) == 4
    classified = set(re.findall(r"Python :: (3\.\d+)", "\n".join(fields.get_all("Classifier"))))
    assert classified == {"3.11", "3.12", "3.13", "3.14"}
    assert not re.search(r'^version = "', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)


def test_the_description_stands_alone(built: dict[str, Path]):
    """[DIST3] Every link and image of the description is absolute and leads to a file of the checkout."""
    text = metadata(built[".whl"]).get_payload()
    places = [link for link in reading.links(text) if not link.startswith("#")]

    ours = [link for link in places if "/orbital-relay/orbital/" in link]
    assert [link for link in places if not urlsplit(link).scheme] == []
    assert len(ours) > 20
    for link in ours:
        assert (CHECKOUT / re.split(r"/main/", urlsplit(link).path)[1]).exists(), link


def test_builds_are_reproducible(built: dict[str, Path], tmp_path: Path):
    """[DIST4] Another copy of the tree, with other times and permissions, builds identical archives."""
    copy = tmp_path / "copy"
    junk = shutil.ignore_patterns("node_modules", "var", ".venv", "__pycache__", ".*_cache", ".hypothesis", "dist")
    shutil.copytree(CHECKOUT, copy, ignore=junk, copy_function=shutil.copyfile)

    again = build(copy, tmp_path / "again")

    def digests(archives: dict[str, Path]) -> dict[str, str]:
        return {suffix: hashlib.sha256(path.read_bytes()).hexdigest() for suffix, path in archives.items()}

    assert digests(again) == digests(built)


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path], tmp_path: Path):
    """[DIST5] The wheel that pip builds from the sdist equals that of the checkout, without secrets or data."""
    with tarfile.open(built[".gz"]) as opened:
        names = opened.getnames()
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()

    again = build(source, tmp_path / "again")

    assert again[".whl"].read_bytes() == built[".whl"].read_bytes()
    inside = {name.split("/", 1)[1] for name in names if "/" in name}
    assert {"CHANGELOG.md", "LICENSE", "README.md", "deploy/nginx.conf", "requirements/run.txt"} <= inside
    assert not [name for name in inside if re.search(r"node_modules|\.env$|\.db|jwt-secret|(^|/)tls/", name)]


def test_no_archive_and_no_image_has_agpl(built: dict[str, Path]):
    """[DIST7] Packages and examples under the AGPL are in no sdist, no wheel and no image."""
    with tarfile.open(built[".gz"]) as sdist, zipfile.ZipFile(built[".whl"]) as wheel:
        names = [*sdist.getnames(), *wheel.namelist()]
    taken = re.findall(r"^!(\S+)$", (CHECKOUT / ".dockerignore").read_text(), re.MULTILINE)

    assert len(names) > 100
    assert "src" in taken
    assert [
        name for name in [*names, *taken] if re.search(r"clients/signal|signal-family|clients$|examples", name)
    ] == []


def test_dependencies_are_listed(tmp_path: Path):
    """[DIST6] The list of components for auditors (CycloneDX) names each locked requirement with its hashes."""
    command = re.search(r"^\t\$\(BIN\)/(cyclonedx-py .*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)[1]
    arguments = command.replace("dist/orbital-relay.cdx.json", str(tmp_path / "bom.json")).split()

    done = subprocess.run([BIN / arguments[0], *arguments[1:]], cwd=CHECKOUT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    bom = json.loads((tmp_path / "bom.json").read_text())
    locked = set(re.findall(r"^([a-z0-9-]+)==", (CHECKOUT / "requirements" / "run.txt").read_text(), re.MULTILINE))
    assert {each["name"] for each in bom["components"]} == locked
    assert bom["metadata"]["component"]["name"] == "orbital-relay"
    assert bom["bomFormat"] == "CycloneDX"
