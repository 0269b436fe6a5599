"""What the examples print: texts of other users reach a terminal with control characters escaped."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import CHECKOUT, node

EXAMPLES = CHECKOUT / "examples"
PYTHON = sorted(path for path in EXAMPLES.rglob("*.py") if "orbital_relay.client" in path.read_text("utf-8"))
JAVASCRIPT = sorted(path for path in EXAMPLES.rglob("*.mjs") if "@orbital-relay/client" in path.read_text("utf-8"))
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r\n\u2028café 🙂"


def printed_elsewhere(source: str) -> list[int]:
    """Return the lines of a Python example that print otherwise than through its `say`."""
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "say"
        for node in ast.walk(function)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and id(node) not in inside
        and (
            ast.unparse(node.func) in {"print", "sys.stdout.write", "sys.stderr.write"}
            or (ast.unparse(node.func) in {"sys.exit", "exit"} and not isinstance(node.args[0], ast.Constant))
        )
    ]


def consoles(source: str) -> list[str]:
    """Return the lines of a JavaScript example, outside its `say` and what is made of it, that use the console."""
    made = re.compile(r"^const (?:say|log|note) = .*?;$", re.MULTILINE | re.DOTALL)
    return [line for line in made.sub("", source).splitlines() if "console." in line or "process.std" in line]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.name)
def test_python_examples(path: Path, capsys: pytest.CaptureFixture[str]):
    """[EXSAY1] A Python example prints only through its `say`, which escapes terminal control characters."""
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    module.say(EVIL)

    printed = capsys.readouterr().out
    assert printed_elsewhere(path.read_text("utf-8")) == []
    assert printed.endswith("\n")
    assert printed[:-1].isprintable()
    assert "café 🙂" in printed


@pytest.mark.parametrize("path", JAVASCRIPT, ids=lambda path: path.name)
def test_javascript_examples(path: Path):
    """[EXSAY2] A JavaScript example prints only through its `say`, which escapes terminal control characters."""
    source = path.read_text("utf-8")
    say = re.search(r"^const say = .*?;$", source, re.MULTILINE | re.DOTALL)
    assert say is not None
    first = "console.log, " if "(print," in say[0] else ""

    printed = subprocess.run(
        [node(), "-e", f"{say[0]}\nsay({first}{json.dumps(EVIL)})"], capture_output=True, check=True, timeout=60
    ).stdout.decode()

    assert consoles(source) == []
    assert printed.endswith("\n")
    assert printed[:-1].isprintable()
    assert "café 🙂" in printed


def test_every_example_is_checked():
    """[EXSAY3] The check finds the examples that print, and violations in them."""
    assert {path.name for path in PYTHON} == {"chat.py", "echo.py", "family.py", "secret_echo.py", "watch.py"}
    assert {path.name for path in JAVASCRIPT} == {"echo.mjs", "watch.mjs"}
    assert printed_elsewhere("print(name)\nsys.exit(str(exc))\nsys.exit(1)") == [1, 2]
    assert consoles("const say = (x) =>\n  console.log(x);\nconsole.error(x);") == ["console.error(x);"]
