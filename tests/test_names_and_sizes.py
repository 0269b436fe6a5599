"""The source's own names and sizes: one class name for one idea, and no file that is too long to read."""

from __future__ import annotations

import ast
import json
import re
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from itertools import pairwise
from pathlib import Path
from token import NAME
from typing import Final

from orbital_relay import errors
from tests.support.programs import CHECKOUT
from tests.test_house import SOURCE, files

MOST_LINES: Final = 400
"""Lines of a source file: what a reader can hold in mind, and what the style page asks for."""

TABLES: Final = {
    "config/settings.py": "the one table of settings: type, default, unit and reason of each",
    "store/tables.py": "the one description of the schema: every table with its columns and indexes",
}
"""Files that may be longer, with the reason."""

ADAPTERS: Final = {
    "HandshakeAdmission": {"server/edge/handshake.py", "server/sessions/admission.py"},
    "Logins": {"services/context.py", "server/auth/logins.py"},
    "Passwords": {"services/context.py", "server/auth/passwords.py"},
}
"""Names of a port (a Protocol) and of its one adapter, with the files of the two."""

PUBLIC: Final = {
    "Event": {"model/log.py", "client/events.py"},
}
"""Names that the Python SDK gives to what the server has under the same name, with the files of the two."""

EVENTS_OF_THE_SDK: Final = "client/events.py"
"""Its classes are the frames of the server as the SDK hands them over: they carry the names of wire/."""

FRAMES_OF_THE_SERVER: Final = {"wire/events.py", "wire/server.py"}


def names() -> Iterator[tuple[str, str]]:
    """Yield name and file of each class and each type alias of a module that other modules can import."""
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE).as_posix()
        for node in ast.parse(path.read_text("utf-8")).body:
            if (name := named_type(node)) is not None and not name.startswith("_"):
                yield name, file


def named_type(node: ast.stmt) -> str | None:
    """Return the name of the class or type that a statement declares; None for any other statement."""
    match node:
        case ast.ClassDef(name=name):
            return name
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value) if (
            "TypeAlias" in ast.unparse(annotation)
        ):
            return None if repeats(name, value) else name
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_type(name, value):
            return name
        case _ if type(node).__name__ == "TypeAlias":  # `type X = …` of Python 3.12 (PEP 695)
            return ast.unparse(vars(node)["name"])
        case _:
            return None


def repeats(name: str, value: ast.expr) -> bool:
    """Return whether a type of another module is given again, under its own name."""
    return ast.unparse(value).rpartition(".")[2] == name


def is_type(name: str, value: ast.expr) -> bool:
    """Return whether what is assigned to a name in CamelCase is a type: a union, a subscript, another type, NewType."""
    if not (name[0].isupper() and not name.isupper()) or repeats(name, value):
        return False
    match value:
        case ast.Call(func=ast.Name(id="NewType" | "NamedTuple" | "TypedDict")):
            return True
        case ast.BinOp(op=ast.BitOr()) | ast.Subscript() | ast.Name() | ast.Attribute():
            return True
        case _:
            return False


def is_one_idea(name: str, found: list[str]) -> bool:
    """Return whether a name stands for one thing, given the files that declare it."""
    files = set(found)
    if len(files) < len(found):
        return False
    frames = {EVENTS_OF_THE_SDK} < files and len(files) == 2 and files - {EVENTS_OF_THE_SDK} <= FRAMES_OF_THE_SERVER
    return len(files) == 1 or frames or files in (ADAPTERS.get(name), PUBLIC.get(name))


def test_one_name_one_idea():
    """[NAMES1] A class or type alias has one meaning in all of the source, except a port's with its adapter."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, file in names():
        found[name].append(file)

    assert len(found) > 700
    assert {name: files for name, files in found.items() if not is_one_idea(name, files)} == {}
    assert [name for name, files in (ADAPTERS | PUBLIC).items() if set(found[name]) != files] == []


def test_a_second_meaning_is_found():
    """[NAMES2] Every kind of declaration counts; a second adapter, or a port in another file, is a second meaning."""
    declared = ast.parse(
        "class Aa: pass\nBb: TypeAlias = int\nCc = Aa | Bb\nDd = NewType('Dd', int)\nEe = dict[str, int]\n"
        "Ff = wire.Other\nGg = wire.Gg\nHh: TypeAlias = wire.Hh\nIi = Aa()\nJJ = Aa\nKk: Final = Aa\nll = Aa | Bb\n"
    )
    statement = type("TypeAlias", (ast.stmt,), {})()
    statement.name = ast.Name("Mm")
    found = [name for node in [*declared.body, statement] if (name := named_type(node)) is not None]

    assert found == ["Aa", "Bb", "Cc", "Dd", "Ee", "Ff", "Mm"]
    assert is_one_idea("Logins", ["services/context.py", "server/auth/logins.py"])
    assert not is_one_idea("Logins", ["services/context.py", "server/auth/logins.py", "other.py"])
    assert not is_one_idea("Logins", ["services/context.py", "other.py"])
    assert not is_one_idea("Other", ["a.py", "a.py"])
    assert is_one_idea("NewMessage", ["client/events.py", "wire/events.py"])
    assert not is_one_idea("Typing", ["client/events.py", "wire/client.py"])


def texts_of_errors() -> Iterator[tuple[str, str]]:
    """Yield the constant text of each error that is made in the source, and its file."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(text)), *_]) if name in ERRORS:
                    yield text, path.relative_to(SOURCE).as_posix()


ERRORS: Final = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.OrbitalError)
}


def test_one_refusal_one_text():
    """[ONETEXT1] The text of a refusal is written in one file: what refuses for the same reason calls one function."""
    found: dict[str, set[str]] = defaultdict(set)
    for text, file in texts_of_errors():
        found[text].add(file)

    assert len(found) > 80
    assert {text: sorted(places) for text, places in found.items() if len(places) > 1} == {}


def test_a_session_is_small():
    """[SESSFILES1] Each file of the sessions has at most 200 lines."""
    sizes = {
        path.name: len(path.read_text("utf-8").splitlines()) for path in (SOURCE / "server" / "sessions").glob("*.py")
    }

    assert "client_session.py" in sizes
    assert {name: size for name, size in sizes.items() if size > 200} == {}


def test_no_file_is_too_long():
    """[SIZES1] A source file has at most 400 lines; a table is listed with its reason."""
    sizes = {
        path.relative_to(SOURCE).as_posix(): len(path.read_text("utf-8").splitlines()) for path in SOURCE.rglob("*.py")
    }

    assert len(sizes) > 150
    assert {name: size for name, size in sizes.items() if size > MOST_LINES and name not in TABLES} == {}


GENERATED: Final = {"clients/javascript/src/api-types.js"}
"""JavaScript that a program writes."""


def test_no_javascript_file_is_too_long():
    """[SIZES2] A JavaScript source file has at most 400 lines; generated files are listed."""
    sizes = {
        name: len(path.read_text("utf-8").splitlines())
        for folder in ("clients", "web", "examples", "bench")
        for path in files(".js", ".mjs", ".cjs", below=folder)
        if not {"test", "types"} & set(path.relative_to(CHECKOUT).parts)
        and (name := path.relative_to(CHECKOUT).as_posix()) not in GENERATED
    }

    assert len(sizes) > 150
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}


def test_the_linter_limits_javascript_functions_and_imports():
    """[SIZES3] biome refuses functions of more than 100 lines of code and import cycles; only tests are excepted."""
    rules = json.loads((CHECKOUT / "biome.json").read_text("utf-8"))
    linter = rules["linter"]["rules"]

    assert linter["complexity"]["noExcessiveLinesPerFunction"]["level"] == "error"
    assert linter["complexity"]["noExcessiveLinesPerFunction"]["options"]["maxLines"] <= 100
    assert linter["suspicious"]["noImportCycles"] == "error"
    exceptions = [pattern for one in rules["overrides"] for pattern in one["includes"]]
    assert [pattern for pattern in exceptions if "test" not in pattern] == []


def is_linted(name: str, configurations: dict[str, list[str]]) -> bool:
    """
    Return whether biome reads a file: the last pattern that matches decides.

    Args:
        name: The file's path in the repository.
        configurations: `files.includes` of each biome.json by its folder ("" is the root): the nearest one decides.
    """
    folder = max((folder for folder in configurations if name.startswith(folder)), key=len)
    verdict = False
    for pattern in configurations[folder]:
        excluded, glob = pattern.startswith("!"), pattern.removeprefix("!")
        inside = name.removeprefix(folder)
        # biome's `**/` also matches no folder; an excluded folder excludes everything below it.
        parts = [inside, *(parent.as_posix() for parent in Path(inside).parents)] if excluded else [inside]
        variants = {glob, glob.replace("**/", "")}
        if any(fnmatchcase(part, variant) for part in parts for variant in variants):
            verdict = not excluded
    return verdict


def test_the_linter_reads_every_javascript_file():
    """[LINTJS1] `npm run lint` of the SDK reads every .js, .mjs, .cjs and .ts file of the repository."""
    configurations = {
        path.relative_to(CHECKOUT).as_posix().removesuffix("biome.json"): json.loads(path.read_text("utf-8"))["files"][
            "includes"
        ]
        for path in files("biome.json")
    }
    names = [path.relative_to(CHECKOUT).as_posix() for path in files(".js", ".mjs", ".cjs", ".ts")]
    script = json.loads((CHECKOUT / "clients" / "javascript" / "package.json").read_text("utf-8"))["scripts"]["lint"]

    assert script.startswith("cd ../.. && ")
    assert script.endswith("biome ci --colors=off")
    assert set(configurations) == {"", "web/"}
    assert len(names) > 200
    assert [name for name in names if not is_linted(name, configurations)] == []


def test_a_file_that_no_pattern_matches_is_found():
    """[LINTJS2] A file outside the patterns, or below an excluded folder, counts as not linted."""
    configurations = {"": ["tests/**", "examples/**/*.mjs", "!**/made"], "web/": ["js/**", "*.js"]}

    assert is_linted("tests/a/b.js", configurations)
    assert is_linted("examples/a.mjs", configurations)
    assert is_linted("web/sw.js", configurations)
    assert not is_linted("tests/a/made/b.js", configurations)
    assert not is_linted("tools/b.js", configurations)
    assert not is_linted("web/a/b.js", {**configurations, "web/": ["js/**"]})


OLD_WORDS: Final = tomllib.loads((CHECKOUT / "tests/language/identifiers.toml").read_text("utf-8"))["instead"]
"""Words of the project's old dialect, which identifiers and file names do not use; and what to say instead."""


def words_of(name: str) -> list[str]:
    """Split an identifier, in snake_case or camelCase, into words in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def old_words(name: str, *, encrypted: bool = False) -> list[str]:
    """
    Return the words of the old dialect in an identifier, or in the name of a file.

    Args:
        name: The identifier.
        encrypted: Whether it is of the end-to-end encryption, where `knock` is the protocol's own name of a record.
    """
    words = words_of(name)
    found = [word for word in [*words, *map("_".join, pairwise(words))] if word in OLD_WORDS]
    return [word for word in found if not (encrypted and word == "knock")]


def identifiers(path: Path) -> set[str]:
    """Return the identifiers of a source file in Python or JavaScript; comments and texts do not count."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return {token.string for token in tokenize.generate_tokens(StringIO(text).readline) if token.type == NAME}
    code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", " ", text, flags=re.DOTALL)
    # The text of a template literal is what stands outside its `${…}`.
    code = re.sub(r"`[^`]*`", lambda found: " ".join(re.findall(r"\$\{([^}]*)\}", found[0])), code)
    return set(re.findall(r"[A-Za-z_$][\w$]*", code))


def test_no_identifier_speaks_the_old_dialect():
    """[OLDWORD1] No identifier, and no name of a file, in source, clients, page, bench or tests has an old word."""
    found = {
        f"{path.relative_to(CHECKOUT)}: {name}": [OLD_WORDS[word] for word in words]
        for folder in ("src", "clients", "web", "bench", "tests", "tools", "examples")
        for path in files(".py", ".js", ".mjs", ".cjs", below=folder)
        if "vendor" not in path.parts
        for name in {path.stem, *identifiers(path)}
        if (words := old_words(name, encrypted="e2ee" in path.as_posix()))
    }

    assert found == {}


def test_an_old_word_is_found(tmp_path: Path):
    """[OLDWORD2] Words are found in snake_case, camelCase and CONSTANTS; in code, and not in texts or comments."""
    source = tmp_path / "a.js"
    source.write_text(
        "// settle\nconst waitIdle = 'park'; `parked ${withdrawKey} once`; /* knock */ f(LoopGuard);\n"
    )  # language: quoted

    assert old_words("_settle_all") == ["settle"]
    assert old_words("PARK_S") == ["park"]
    assert old_words("giveUpNow") == ["give_up"]
    assert old_words("unsettled") == []
    assert old_words("isKnockOf", encrypted=True) == []
    assert old_words("knock_again") == ["knock"]
    assert identifiers(source) == {"const", "waitIdle", "withdrawKey", "f", "LoopGuard"}
    assert old_words("LoopGuard") == ["loop_guard"]


def test_the_column_of_the_event_key_is_named_in_one_file():
    """[COLNAME1] Outside of migrations, only store/tables.py names the column `place` of an event's key."""
    named = {
        path.name
        for path in (SOURCE / "store").rglob("*.py")
        if "migrations" not in path.parts and any(map(names_place, sql_texts(path)))
    }

    assert named == {"tables.py"}


def names_place(text: str) -> bool:
    """Return whether a text is the column's name, or a statement in SQL that has it."""
    return text == "place" or bool(re.search(r"\b(?:SELECT|INSERT|FROM|JOIN)\b(?s:.*)\bplace\b", text))


def sql_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module; of an f-string, its source."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield ast.unparse(node)


def imported_names() -> Iterator[tuple[str, str, str]]:
    """Yield file, module and name of each import from the package in programs that stand beside it."""
    for folder in ("bench", "examples", "tools"):
        for path in files(".py", below=folder):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "orbital_relay":
                    for name in node.names:
                        yield path.relative_to(CHECKOUT).as_posix(), node.module or "", name.name


def test_programs_beside_the_package_import_names_that_exist():
    """[PROGNAME1] What the bench, the examples and the tools import from the package exists there."""
    found = list(imported_names())

    assert len(found) > 20
    assert [row for row in found if not is_there(*row[1:])] == []


def is_there(module: str, name: str) -> bool:
    """Return whether a module has a name, or is the package of a module of that name."""
    return hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None
