"""The documentation as a site: built without a warning, complete, usable offline; its diagrams are current."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.docs import diagrams
from tests.support.programs import CHECKOUT, missing


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does."""
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        missing("MkDocs with its theme", remedy="run make dev")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    # The proxy does not exist: nothing outside of this machine can be loaded.
    env = {**os.environ, "http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path):
    """[PAGES1] Each page of docs/ and the Python API are pages of the site, and each is in the navigation."""
    wanted = {path.relative_to(CHECKOUT / "docs").with_suffix(".html") for path in (CHECKOUT / "docs").rglob("*.md")}
    made = {path.relative_to(site) for path in site.rglob("*.html")}
    pages = {Path("index.html" if path.name == "README.html" and path.parent == Path() else path) for path in wanted}
    # A README is its folder's index.
    pages = {path.with_name("index.html") if path.name == "README.html" else path for path in pages}
    index = (site / "index.html").read_text("utf-8")

    assert pages - made == set()
    assert "orbital_relay.client.Orbital" in (site / "reference" / "python-api.html").read_text("utf-8")
    assert [page for page in pages if f'href="{page.as_posix()}"' not in index and page != Path("index.html")] == []


def test_nothing_is_fetched_from_elsewhere(site: Path):
    """[PAGES2] No page, style or script of the site loads anything from another host: it works without a network."""
    loads = re.compile(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")
    draws = re.compile(r"url\([\"']?(?:https?:)?//")
    pages = {path.name: path.read_text("utf-8") for path in site.rglob("*.html")}
    guilty = [name for name, text in pages.items() if loads.search(text)]
    styles = [path.name for path in site.rglob("*.css") if draws.search(path.read_text("utf-8"))]

    # With a repository set, the theme's script requests its number of stars from GitHub.
    assert [name for name, text in pages.items() if 'data-md-component="source"' in text] == []
    assert (guilty, styles) == ([], [])


def test_links_to_other_files_lead_to_the_repository(site: Path):
    """[PAGES3] A link to a file outside docs/ points to that file's address in the repository."""
    inside = re.compile(r'href="https://github\.com/orbital-relay/orbital/blob/main/([^"#]+)')
    named = {place for path in site.rglob("*.html") for place in inside.findall(path.read_text("utf-8"))}

    assert "deploy/nginx.conf" in named
    assert [place for place in named if not (CHECKOUT / place).exists()] == []


@pytest.mark.parametrize(("name", "text"), list(diagrams.drawings()), ids=lambda value: value[:25])
def test_diagrams_are_current(name: str, text: str):
    """[DIAG1] Each diagram is identical to the output of `make docs`, and has a description in words."""
    drawn = ET.fromstring(text)  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"

    assert (diagrams.IMAGES / name).read_text("utf-8") == text, f"run {diagrams.COMMAND}"
    assert drawn.find(f"{space}title").text
    assert len(drawn.find(f"{space}desc").text) > 50


@pytest.mark.parametrize("name", [name for name, _ in diagrams.drawings()])
def test_diagrams_are_shown(name: str):
    """[DIAG2] Each diagram is on a page, with a text alternative."""
    picture = re.compile(rf"!\[[^\]]{{40,}}\]\([^)]*{name}\)")
    shown = [path for path in (CHECKOUT / "docs").rglob("*.md") if picture.search(path.read_text("utf-8"))]

    assert len(shown) == 1
