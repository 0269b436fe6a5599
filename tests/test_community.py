"""What a stranger expects at the door: workflows that name what exists, policies, templates, an editor's settings."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs import reading
from tests.support.programs import CHECKOUT

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
MANIFEST = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def jobs(path: Path) -> dict[str, Any]:
    """Return the jobs of a workflow."""
    return yaml.safe_load(path.read_text())["jobs"]


def commands(path: Path) -> Iterator[str]:
    """Yield the command lines of a file that starts make: a workflow, or the hooks of pre-commit."""
    document = yaml.safe_load(path.read_text())
    for job in document.get("jobs", {}).values():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    for repository in document.get("repos", ()):
        yield from (hook["entry"] for hook in repository["hooks"])


@pytest.mark.parametrize("path", [*WORKFLOWS, CHECKOUT / ".pre-commit-config.yaml"], ids=lambda path: path.name)
def test_every_target_exists(path: Path):
    """[COMM1] Every make target that a workflow or a hook runs is in the Makefile, and every folder exists."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    started = {
        word
        for line in commands(path)
        for found in re.findall(r"\bmake (?:--[a-z-]+ )*([a-z-]+(?: [a-z-]+)*)", line)
        for word in found.split()
    }
    document = yaml.safe_load(path.read_text())
    folders = [
        job["defaults"]["run"]["working-directory"] for job in document.get("jobs", {}).values() if "defaults" in job
    ]

    assert started
    assert started - targets == set()
    assert [folder for folder in folders if not (CHECKOUT / folder).is_dir()] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_permissions(path: Path):
    """[COMM2] A workflow has only read permission unless a job requests more; every job has a timeout and no secret."""
    document = yaml.safe_load(path.read_text())

    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 90
        needed = job.get("needs", [])
        assert ({needed} if isinstance(needed, str) else set(needed)) <= set(document["jobs"])
    assert "secrets." not in path.read_text()


def test_every_version_is_tested():
    """[COMM3] The matrix has each Python of the classifiers and each Node from the oldest in `engines` on."""
    checked = jobs(CHECKOUT / ".github" / "workflows" / "check.yml")
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(MANIFEST["project"]["classifiers"]))
    package = json.loads((CHECKOUT / "clients" / "javascript" / "package.json").read_text())
    oldest = re.match(r">=(\d+)", package["engines"]["node"])[1]

    assert checked["python"]["strategy"]["matrix"]["python"] == classified
    assert checked["javascript"]["strategy"]["matrix"]["node"][0] == oldest
    assert len(checked["javascript"]["strategy"]["matrix"]["node"]) >= 2


def test_a_release_is_attested_and_published_without_a_password():
    """[COMM4] A release has provenance and a list of components; the workflow's identity publishes it."""
    release = jobs(CHECKOUT / ".github" / "workflows" / "release.yml")
    used = {step["uses"].split("@")[0] for job in release.values() for step in job["steps"] if "uses" in step}

    assert {"actions/attest-build-provenance", "actions/attest-sbom", "pypa/gh-action-pypi-publish"} <= used
    assert release["pypi"]["permissions"] == {"id-token": "write"}
    assert any("npm publish --provenance" in step.get("run", "") for step in release["npm"]["steps"])
    sbom = next(
        step["with"]["sbom-path"] for step in release["build"]["steps"] if "attest-sbom" in step.get("uses", "")
    )
    assert f"-o {sbom} " in (CHECKOUT / "Makefile").read_text()


@pytest.mark.parametrize(
    "path", sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_templates_are_forms(path: Path):
    """[COMM5] Each issue form has a name, a description and fields with unique ids; links lead to the project."""
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert all(link["url"].startswith(MANIFEST["project"]["urls"]["Source"]) for link in form["contact_links"])
        return
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]

    assert form["name"]
    assert form["description"]
    assert ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"])
def test_policies_are_checked_and_have_a_contact(name: str):
    """[COMM6] Each policy is among the pages whose links and sentences are checked, and names a contact."""
    page = CHECKOUT / name

    assert page in reading.documents()
    if name != "CONTRIBUTING.md":
        assert MANIFEST["project"]["urls"]["Source"] in page.read_text()


def test_the_tree_follows_editorconfig():
    """[COMM7] The tree follows .editorconfig: LF, a newline at the end of a file, no trailing whitespace."""
    wrong = []
    kinds = ("*.py", "*.md", "*.yml", "*.yaml", "*.toml", "*.conf", "*.cfg", "Makefile", "Caddyfile")
    for kind in kinds:
        for path in CHECKOUT.rglob(kind):
            if {"node_modules", "var", ".venv", "dist", ".git"} & set(path.relative_to(CHECKOUT).parts):
                continue
            text = path.read_bytes()
            if text and (b"\r" in text or not text.endswith(b"\n") or re.search(rb"[ \t]+\n", text)):
                wrong.append(path.relative_to(CHECKOUT).as_posix())

    assert wrong == []
