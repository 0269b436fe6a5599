"""The generated index of the source, docs/reference/source-index.md: numbers, endpoints, errors, settings and files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.support.programs import CHECKOUT

PAGE = "docs/reference/source-index.md"
PACKAGE = CHECKOUT / "src" / "orbital_relay"
JAVASCRIPT = ("clients/javascript/src", "clients/e2ee/src", "clients/signal/src", "web/js")
LONGEST_VALUE = 40
"""Characters of a value that is shown; longer ones are tables and patterns, which the file shows better."""

_JS_CONSTANT = re.compile(
    r"^/\*\*(?P<about>(?:(?!\*/).)*)\*/\n(?:export )?const (?P<name>[A-Z][A-Z0-9_]+) = (?P<value>[^\n]*)",
    re.MULTILINE | re.DOTALL,
)
_JS_HEAD = re.compile(r"\A(?:#![^\n]*\n)?(?:/\*\*?(?P<block>.*?)\*/|(?P<lines>(?://[^\n]*\n)+))", re.DOTALL)


class Constant(NamedTuple):
    """A number or a text with a name: what it bounds, its value as written, and its file."""

    about: str
    name: str
    value: str
    file: str


def index_page() -> str:
    """Return the text of the page."""
    return "\n".join(
        [
            "# Index of the source",
            "",
            "<!-- Made by `python -m tests.docs.pages` from the source. -->",
            "",
            "Search this page for a number, an endpoint, an error, a setting or a file.",
            "[The glossary](../glossary.md#where-it-is-in-the-source) leads from a term of the field to its file.",
            "A path without `clients/` or `web/` is below `src/orbital_relay/`.",
            "",
            "## Limits, periods and other constants",
            "",
            *_table(["what it is", "name", "value", "file"], (_constant_row(each) for each in constants())),
            "",
            "## Endpoints",
            "",
            "Each request is read in its route; the use case, which its route calls, is in `services/`.",
            "",
            *_table(["request", "what it does", "route"], endpoints()),
            "",
            "## Errors",
            "",
            "An error's class in `errors.py` has its code and HTTP status; its text is written where it is raised,",
            "and a text that several files need in `core/refusals.py`.",
            "",
            *_table(["text", "code", "class", "file"], errors()),
            "",
            "## Settings",
            "",
            "Each is declared in `config/settings.py`, with its default and bounds.",
            "",
            *_table(["setting", "read in"], settings()),
            "",
            "## Files",
            "",
            *_table(["file", "what is in it"], files()),
            "",
        ]
    )


def _table(heads: list[str], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> list[str]:
    def line(cells: tuple[str, ...] | list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"

    return [line(heads), line(["---"] * len(heads)), *map(line, sorted(rows))]


def _first_sentence(text: str) -> str:
    """Return the first sentence of a comment as one line, without its types."""
    text = re.sub(r"\s*\n\s*\*?\s*", " ", text).strip().removeprefix("* ")
    text = re.sub(r"^@\w+ (?:\{.*\}\s*)?(?=[A-Z`]|$)", "", text)
    text = re.split(r"(?<=\.)\s|\s@", text, maxsplit=1)[0]
    return text.rstrip(".:; ")


def _short(path: Path) -> str:
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else CHECKOUT).as_posix()


def python_files() -> list[Path]:
    """Return the source files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def javascript_files() -> list[Path]:
    """Return the source files of the JavaScript packages and of the page."""
    return sorted(path for folder in JAVASCRIPT for path in (CHECKOUT / folder).rglob("*.js"))


def constants() -> list[Constant]:
    """Return every named constant that says what it is, of both languages."""
    found = []
    for path in python_files():
        body = ast.parse(path.read_text("utf-8")).body
        scopes = [body, *(node.body for node in body if isinstance(node, ast.ClassDef))]
        for scope in scopes:
            for node, text in pairwise(scope):
                name = _assigned(node)
                if name is None or not isinstance(text, ast.Expr) or not isinstance(text.value, ast.Constant):
                    continue
                assert isinstance(node, ast.Assign | ast.AnnAssign)
                value = ast.unparse(node.value) if node.value is not None else ""
                found.append(Constant(_first_sentence(str(text.value.value)), name, value, _short(path)))
    for path in javascript_files():
        for match in _JS_CONSTANT.finditer(path.read_text("utf-8")):
            value = match["value"].removesuffix(";")
            found.append(Constant(_first_sentence(match["about"]), match["name"], value, _short(path)))
    return [one for one in found if one.about]


def _assigned(node: ast.stmt) -> str | None:
    """Return the name of a constant that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    target = targets[0] if targets else None
    return target.id if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z][A-Z0-9_]+", target.id) else None


def _constant_row(one: Constant) -> tuple[str, ...]:
    short = len(one.value) <= LONGEST_VALUE and not one.value.endswith(("{", "[", "("))
    return one.about, f"`{one.name}`", f"`{one.value}`" if short and one.value else "", f"`{one.file}`"


def endpoints() -> list[tuple[str, ...]]:
    """Return each request with its summary and the file that reads it."""
    import inspect

    from orbital_relay.server.http import ENDPOINTS

    return [
        (
            f"`{one.method} {one.path}`",
            one.summary.rstrip("."),
            f"`{_short(Path(inspect.getfile(inspect.unwrap(one.handler))))}`",
        )
        for one in ENDPOINTS
    ]


def errors() -> list[tuple[str, ...]]:
    """Return the text of each error with its class and the file in which it is written."""
    from orbital_relay import errors as module

    codes = {
        name: kind.code
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, module.OrbitalError)
    }
    found = set()
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in codes and node.args:
                text = _text(node.args[0])
                if text:
                    found.add((text, f"`{codes[node.func.id]}`", f"`{node.func.id}`", f"`{_short(path)}`"))
    return list(found)


def _text(node: ast.expr) -> str:
    """Return the text that an expression makes, with `…` for what it is filled with; empty if it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def settings() -> list[tuple[str, ...]]:
    """Return each setting with the files that read it."""
    import msgspec

    from orbital_relay.config import Settings

    names = {field.name for field in msgspec.structs.fields(Settings)}
    read: dict[str, set[str]] = {name: set() for name in names}
    for path in python_files():
        if path.is_relative_to(PACKAGE / "config"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in names and "settings" in ast.unparse(node.value):
                read[node.attr].add(_short(path))
    return [(f"`{name}`", ", ".join(f"`{file}`" for file in sorted(files))) for name, files in read.items()]


def files() -> list[tuple[str, ...]]:
    """Return each source file with the first sentence of its head."""
    found = []
    for path in python_files():
        head = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if head:
            found.append((f"`{_short(path)}`", _first_sentence(head)))
    for path in javascript_files():
        match = _JS_HEAD.match(path.read_text("utf-8"))
        if match:
            text = match["block"] or re.sub(r"^// ?", "", match["lines"], flags=re.MULTILINE)
            found.append((f"`{_short(path)}`", _first_sentence(text)))
    return found
