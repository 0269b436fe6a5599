"""The source tree: layers, first lines, locks, and what the tree never contains."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import CHECKOUT

SOURCE = CHECKOUT / "src" / "orbital_relay"
_MADE = {"node_modules", "types", "var", "dist", "__pycache__"}
# Written in parts, so that this file does not contain what it searches for.
_UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
_OF_ONE_MACHINE = re.compile(r"(?<![\w.])/(?:ro" + r"ot|wo" + r"rk|ho" + r"me/[a-z]+)/")
_REGISTRY = re.compile(
    r"(?:files\.python" + r"hosted|py" + r"pi|registry\.np" + r"mjs|registry\.yarn" + r"pkg)\.(?:org|com)"
)

# How a line of a pip requirements file begins that names an index.
_FETCHED_FROM = re.compile(r"^(?:-[fi] |--find-links|--index-url|--extra-index-url)")


def files(*suffixes: str, below: str = ".") -> Iterator[Path]:
    """Yield the tree's own files with these suffixes (all if none), what was made in it left out."""
    for folder, inside, names in os.walk(CHECKOUT / below):
        inside[:] = sorted(
            name
            for name in inside
            if name not in _MADE and not name.endswith(".egg-info") and (not name.startswith(".") or name == ".ci")
        )
        for name in sorted(set(names) - {".git"}):  # a file in a worktree, which names where the repository is
            if not suffixes or name.endswith(suffixes):
                yield Path(folder, name)


def lines(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Yield "file:number" and text of each line of the tree's text files."""
    for path in files(*suffixes):
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{path.relative_to(CHECKOUT)}:{number}", line


def modules(*folders: str) -> list[str]:
    """Return every Python file below `folders`, as parameters of tests."""
    return [str(path.relative_to(CHECKOUT)) for folder in folders for path in files(".py", below=folder)]


def test_floors():
    """[HOUSE1] Imports point down; the modules of the core import nothing that waits."""
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True
    )

    assert found.returncode == 0, found.stdout + found.stderr


def test_wings():
    """[WINGS1] The contracts name every wing and module of the server, forbid cycles, and include type imports."""
    linter = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    contracts = {contract["type"]: contract for contract in linter["contracts"] if "server" in str(contract)}
    circles = [contract for contract in linter["contracts"] if contract["type"] == "acyclic_siblings"]
    named = {name for layer in contracts["layers"]["layers"] for name in re.findall(r"\w+", layer)}

    assert linter["exclude_type_checking_imports"] is False
    assert [contract["ancestors"] for contract in circles] == [["orbital_relay"]]
    ignored = [name for contract in linter["contracts"] for name in contract.get("ignore_imports", ())]
    assert ignored == ["orbital_relay.commands.verify -> orbital_relay.e2ee.*"]
    assert contracts["layers"]["containers"] == ["orbital_relay.server"]
    assert {"edge", "auth", "limits", "sessions", "cluster", "ops", "http"} <= named


@pytest.mark.parametrize("module", modules("src", "tests", "bench", "examples"))
def test_first_line(module: str):
    """[HOUSE2] Every module's first line says what it contains."""
    said = ast.get_docstring(ast.parse((CHECKOUT / module).read_text("utf-8")))

    assert said, f"{module} has no docstring"
    assert said.splitlines()[0].rstrip().endswith((".", "?", "!", ":")), f"{module}: its first line is no sentence"


def test_core_is_tested_alone():
    """[HOUSE3] Every module of the core has its own file of unit tests."""
    proven = {path.name for path in files(".py", below="tests/unit")}
    unproven = [
        path.name for path in files(".py", below="src/orbital_relay/core")
        if path.name != "__init__.py" and f"test_{path.name}" not in proven
    ]  # fmt: skip

    assert unproven == []


def _tests(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse((CHECKOUT / module).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


@pytest.mark.parametrize("module", [name for name in modules("tests") if Path(name).name.startswith("test_")])
def test_every_test_claims(module: str):
    """[HOUSE4] Every test's docstring starts with its rule id, as `[ORD3]`, and makes a claim."""
    claim = re.compile(r"\[[A-Z][A-Z0-9-]*(?:[, ]+[A-Z][A-Z0-9-]*)*\] \S")
    mute = [test.name for test in _tests(module) if not claim.match(ast.get_docstring(test) or "")]

    assert mute == []


def test_environment_is_read_in_one_place():
    """[HOUSE5] Only `config` reads the environment."""
    readers = [
        where for where, line in lines(".py")
        if where.startswith("src/") and re.search(r"\bos\.(?:environ|getenv)\b", line)
        and not where.startswith("src/orbital_relay/config/loading.py:")
    ]  # fmt: skip

    assert readers == []


def test_core_does_not_read_the_clock():
    """[HOUSE6] The modules of the core get the time as an argument: no `now()`, no `today()`, no random UUID."""
    deciding = [
        *(path for room in ("core", "wire", "model") for path in files(".py", below=f"src/orbital_relay/{room}")),
        SOURCE / "errors.py",
    ]
    asked = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno}"
        for path in deciding
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in {"now", "utcnow", "today", "uuid1", "uuid4"}
    ]

    assert asked == []


def test_locks_name_no_index():
    """[HOUSE7] Locks contain versions and hashes, and no URL of a package index."""
    python = [where for where, line in lines(".txt") if where.startswith("requirements/") and "://" in line]
    javascript = [where for where, line in lines("package-lock.json") if '"resolved"' in line]

    assert python + javascript == []


def test_locks_agree():
    """[HOUSE8] All Python locks have the same version of each package, with hashes."""
    pinned: dict[str, dict[str, str]] = {}
    locks = sorted((CHECKOUT / "requirements").glob("*.txt"))
    for lock in locks:
        text = lock.read_text("utf-8")
        # Windows, where neither the server nor the tests run, may get another one.
        for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)(?= )(?! ; sys_platform == 'win32')", text, re.MULTILINE):
            pinned.setdefault(name, {})[lock.stem] = version
        assert re.findall(r"^[a-z0-9-]+==[^\\\n]*$", text, re.MULTILINE) == [], f"{lock.name} has no hash for these"

    assert {lock.stem for lock in locks} == {"build", "dev", "e2ee", "run", "site"}
    assert {name: where for name, where in pinned.items() if len(set(where.values())) > 1} == {}


def test_no_note_of_unfinished_work():
    """[HOUSE9] The tree contains no note of unfinished work."""
    assert [where for where, line in lines() if _UNFINISHED.search(line)] == []


def test_no_machine_specific_path_or_host():
    """[HOUSE10] The tree contains no path of one machine, no registry host, and no other download location."""
    unwanted = (_OF_ONE_MACHINE, _REGISTRY, _FETCHED_FROM)
    named = [where for where, line in lines() if any(pattern.search(line) for pattern in unwanted)]

    assert named == []


@pytest.mark.parametrize("module", modules("tests"))
def test_a_sleep_has_a_reason(module: str):
    """[HOUSE12] A sleep is not used as a wait: outside a loop that polls, a comment gives its reason."""
    text = (CHECKOUT / module).read_text("utf-8").splitlines()
    tree = ast.parse("\n".join(text))
    looking = {id(node) for loop in ast.walk(tree) if isinstance(loop, ast.While) for node in ast.walk(loop)}
    bare = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and id(node) not in looking
        and getattr(node.func, "attr", "") == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
        and "#" not in text[node.lineno - 1]
        and not text[node.lineno - 2].lstrip().startswith("#")
    ]

    assert bare == []


def test_the_allow_list_of_dead_code_is_current():
    """[HOUSE14] Every name that vulture ignores is still in the tree."""
    ignored = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["vulture"]["ignore_names"]
    text = "\n".join(
        path.read_text("utf-8") for folder in ("src", "bench", "tests") for path in files(".py", below=folder)
    )
    text += "".join((CHECKOUT / name).read_text("utf-8") for name in ("hatch_build.py", "mkdocs_hooks.py"))

    assert [name for name in ignored if not re.search(rf"\b{name.replace('*', '')}", text)] == []


def test_wheel_holds_everything(tmp_path: Path):
    """[HOUSE13] The wheel contains every module, the migrations, the web page and the SDK, without their tests."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("orbital_relay-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        carried = set(opened.namelist())

    places = {
        "src/orbital_relay": "orbital_relay",
        "web": "orbital_relay/_web",
        "clients/javascript/src": "orbital_relay/_sdk",
    }
    wanted = {
        f"{inside}/{path.relative_to(CHECKOUT / source).as_posix()}"
        for source, inside in places.items()
        for path in files(below=source)
        if path.name not in {"package.json", "package-lock.json", "tsconfig.json", "biome.json"}
        and not path.name.startswith(".")
        and path.relative_to(CHECKOUT / source).parts[0] not in {"test", "types", "scripts"}
    }
    assert "orbital_relay/_sdk/index.js" in wanted
    assert wanted - carried == set()
    assert [name for name in carried if re.search(r"_(web|sdk)/(.*/)?(test|node_modules|\.|.*\.json$)", name)] == []
