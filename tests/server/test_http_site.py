"""Files over HTTP: the web page and the JavaScript SDK."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment

import orbital_relay
from orbital_relay.server.http.static import files
from orbital_relay.server.http.static.files import Files, folder, without_comments
from tests.server.api import Api

_GONE = "/nowhere/at/all"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a page, beside something that nobody should see."""
    (tmp_path / "secret.txt").write_text("secret")
    web = tmp_path / "web"
    (web / "deep").mkdir(parents=True)
    (web / "index.html").write_text("<!doctype html><title>é</title>")
    (web / "app.js").write_text("export {};")
    (web / "deep" / "style.css").write_text("a {}")
    (web / "notes.md").write_text("not for serving")
    (web / "package.json").write_text("{}")
    for name in ("node_modules/lib/index.js", "test/app.test.js"):
        (web / name).parent.mkdir(parents=True)
        (web / name).write_text("not for serving")
    (web / ".hidden.js").write_text("secret")
    (web / "out.js").symlink_to(tmp_path / "secret.txt")
    (web / "loop.js").symlink_to(web / "loop.js")
    return web


def test_files_are_served_with_their_types(root: Path):
    """[SITE1] Each type of file has its content type, whatever the system's MIME table says."""
    found = {name: Files(root).reply(name, if_none_match=None) for name in ("index.html", "app.js", "deep/style.css")}

    assert {name: reply.content_type for name, reply in found.items() if reply is not None} == {
        "index.html": b"text/html; charset=utf-8",
        "app.js": b"text/javascript; charset=utf-8",
        "deep/style.css": b"text/css; charset=utf-8",
    }
    assert {reply.cache for reply in found.values() if reply is not None} == {b"no-cache"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nope.js",
        "deep",
        "deep/",
        "notes.md",
        "../secret.txt",
        "deep/../../secret.txt",
        "/etc/passwd",
        "//secret.txt",
        ".hidden.js",
        "out.js",
        "app.js\0",
        "app.js/",
        "..\\secret.txt",
        "./app.js/../../secret.txt",
        "x" * 5000 + ".js",
        "loop.js",
        "node_modules/lib/index.js",
        "test/app.test.js",
        "package.json",
    ],
    ids=lambda name: repr(name[:30]),
)
def test_nothing_else_is_served(root: Path, name: str):
    """[SITE2] No other type, no folder, no hidden file, nothing outside is served, whatever the spelling or link."""
    reply = Files(root).reply(name, if_none_match=None)

    assert reply is None


def test_without_a_folder_there_is_nothing():
    """[SITE10] An installation without the page serves none of its files."""
    assert Files(None).reply("index.html", if_none_match=None) is None
    assert folder("_nothing", _GONE.strip("/")) is None


@pytest.mark.parametrize(
    ("header", "matches"),
    [("{etag}", True), ("W/{etag}", True), ('"other", {etag}', True), ("*", True), ('"other"', False), ("", False)],
)
def test_a_current_copy_is_not_sent_again(root: Path, header: str, *, matches: bool):
    """[SITE3] 304 without a body for the version that the client has (RFC 9110 §13.1.2); any other gets the file."""
    site = Files(root)
    first = site.reply("app.js", if_none_match=None)
    assert first is not None
    etag = dict(first.headers)[b"etag"].decode()

    again = site.reply("app.js", if_none_match=header.format(etag=etag))

    assert again is not None
    assert (again.status, again.body) == ((304, b"") if matches else (200, b"export {};"))
    assert dict(again.headers)[b"etag"].decode() == etag


def test_files_are_loaded_at_the_start(root: Path):
    """[SITE12] Changes of files below a running server are not served: versions never mix."""
    site = Files(root)
    before = site.reply("app.js", if_none_match=None)
    (root / "app.js").write_text("export 2;")
    (root / "new.js").write_text("export 3;")

    after = site.reply("app.js", if_none_match=None)
    again = Files(root).reply("app.js", if_none_match=None)

    assert before is not None
    assert after is not None
    assert (after.body, after.headers) == (before.body, before.headers)
    assert site.reply("new.js", if_none_match=None) is None
    assert again is not None
    assert again.body == b"export 2;"
    assert dict(again.headers)[b"etag"] != dict(before.headers)[b"etag"]


@pytest.mark.parametrize(
    ("source", "served"),
    [
        ("/** A. */\nlet a; // b\n", "\nlet a; // b\n"),
        ("/**\n * A **.\n */\nlet a;\n  // b\n", "\n\n\nlet a;\n\n"),
        ("  /* a */ let b;\n", "  /* a */ let b;\n"),
        ("let a = '/*';\n/* b */\n", "let a = '/*';\n\n"),
        ("let a = 1 /* b\n*/ + 2;\n", "let a = 1 /* b\n*/ + 2;\n"),
    ],
)
def test_comments_are_not_served(source: str, served: str):
    """[SITE9] Comments that fill lines are left out of scripts and style sheets; every line keeps its number."""
    assert without_comments(source.encode()).decode() == served


def test_nothing_but_comments_is_left_out():
    """[SITE14] Each script and style sheet of the page and of the SDK is served with every token that is no comment."""
    compared = 0
    for packaged, checkout in (("_web", "web"), ("_sdk", "clients/javascript/src")):
        root = folder(packaged, checkout)
        assert root is not None
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if path.suffix not in {".js", ".css"} or {"node_modules", "test", "types", "scripts"} & {*name.parts}:
                continue
            source = path.read_text()
            reply = Files(root).reply(name.as_posix(), if_none_match=None)
            assert reply is not None
            lexer = get_lexer_for_filename(path.name)

            def code(text: str, lexer: Lexer = lexer) -> str:
                kept = (word for kind, word in lexer.get_tokens(text) if kind not in Comment)
                return "".join("".join(kept).split())

            assert code(reply.body.decode()) == code(source), path
            assert reply.body.count(b"\n") == source.count("\n"), path
            compared += 1
    assert compared > 70


def test_an_edition_changes_with_each_file(root: Path):
    """[SITE8] All files share one edition mark, which changes with any of them and with nothing else."""
    first = Files(root).edition
    (root / "test" / "app.test.js").write_text("changed")
    (root / "notes.md").write_text("changed")
    same = Files(root).edition
    (root / "deep" / "style.css").write_text("b {}")
    changed = Files(root).edition
    (root / "more.js").write_text("")
    added = Files(root).edition

    assert first == same
    assert len({first, changed, added, b""}) == 4
    reply = Files(root).reply("app.js", if_none_match=None, edition=first)
    assert reply is not None
    assert dict(reply.headers)[b"x-orbital-page"] == first


async def test_every_file_of_the_page_is_marked(api: Api):
    """[SITE13] Page, script and SDK have the same mark, also in a 304; other responses have none."""
    answers = [await api.ask("GET", path) for path in ("/", "/js/main.js", "/sdk/client.js")]
    again = await api.ask("GET", "/", headers={"If-None-Match": answers[0].headers["etag"]})
    other = await api.ask("GET", "/docs")

    assert len({answer.headers["x-orbital-page"] for answer in [*answers, again]}) == 1
    assert again.status_code == 304
    assert "x-orbital-page" not in other.headers


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5, *;q=0", True),
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, br", False),
    ],
)
def test_text_is_compressed_on_request(root: Path, accepts: str | None, packed: bool):
    """[SITE7] A client that accepts gzip gets it, with its own ETag; every client gets the same text."""
    reply = Files(root).reply("app.js", if_none_match=None, accept_encoding=accepts)

    assert reply is not None
    headers = dict(reply.headers)
    assert headers[b"vary"] == b"accept-encoding"
    assert (headers.get(b"content-encoding") == b"gzip") is packed
    assert headers[b"etag"].endswith(b'-gz"') is packed
    assert (gzip.decompress(reply.body) if packed else reply.body) == b"export {};"
    again = Files(root).reply("app.js", if_none_match=headers[b"etag"].decode(), accept_encoding=accepts)
    assert again is not None
    assert again.status == 304


def test_the_package_s_own_folder_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[SITE4] An installed server serves the files of the wheel; a checkout serves its own files."""
    package = tmp_path / "site" / "orbital_relay"
    (package / "_web").mkdir(parents=True)
    (tmp_path / "clients").mkdir()
    monkeypatch.setattr(files.orbital_relay, "__file__", str(package / "__init__.py"))

    assert folder("_web", "clients") == package / "_web"
    assert folder("_sdk", "clients") == tmp_path / "clients"
    assert orbital_relay.__version__


async def test_the_sdk_is_served(api: Api):
    """[SITE5] `/sdk/orbital.js` is the SDK's entry; every module that it imports is served, for any page."""
    waiting, seen = ["orbital.js"], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        answer = await api.ask("GET", f"/sdk/{name}", headers={"Origin": "https://elsewhere.example"})
        assert answer.status_code == 200, name
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        again = await api.ask("GET", f"/sdk/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        waiting += re.findall(r"from '\./([\w.-]+)'", answer.text)
    assert len(seen) > 1


@pytest.mark.parametrize(
    "path",
    [
        "/sdk/",
        "/sdk/nope.js",
        "/sdk/../README.md",
        "/sdk/%2e%2e/package.json",
        "/sdk/..%2fpackage.json",
        "/%2e%2e/pyproject.toml",
    ],
)
async def test_unknown_files_are_404(api: Api, path: str):
    """[SITE11] A path that is not a file of the SDK or the page is 404 in JSON."""
    answer: Any = await api.ask("GET", path)

    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


async def test_the_start_page(api: Api):
    """[SITE6] `/` is a page with a policy that allows no other origin."""
    answer = await api.ask("GET", "/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    # The import map is the one script in the page, and allowed by its hash.
    maps = re.findall(r'<script type="importmap">(.*?)</script>', answer.text)
    digest = base64.b64encode(hashlib.sha256(maps[0].encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert answer.text.count("<script") == 2
    assert "http" not in policy
