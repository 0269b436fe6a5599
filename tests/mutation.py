"""
`python -m tests.mutation`: change the deciding modules line by line, and name each change that no unit test notices.

mutmut makes the changes (mutants) in a copy of the tree, and runs for each the unit tests that reach its function. A
mutant that survives is a missing assertion, or it is equivalent: then tests/survivors.toml has it with the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.support.programs import CHECKOUT

EXPLAINED = CHECKOUT / "tests" / "survivors.toml"
_COPIED = ("src", "tests", "spec", "docs", "pyproject.toml", "package.json", "README.md")
_MUTMUT = [sys.executable, "-m", "mutmut"]
_RESULT = re.compile(r"^\s*(\S+__mutmut_\d+): (?:survived|no tests|suspicious)$", re.MULTILINE)


class Survivor(NamedTuple):
    """A mutant that no test noticed: its function, and the line before and after the change."""

    function: str
    before: str
    after: str


def function_of(mutant: str) -> str:
    """Return the function of a mutant's name, as of "orbital_relay.core.wheel.xǁWheelǁturn__mutmut_3"."""
    module, _, name = mutant.partition("__mutmut_")[0].rpartition(".")
    return f"{module.removeprefix('orbital_relay.')}.{name.removeprefix('xǁ').removeprefix('x_').replace('ǁ', '.')}"


def survivor_of(mutant: str, diff: str) -> Survivor:
    """Return a survivor of its name and its unified diff."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign)).strip() for sign in ("-", "+")
    )
    return Survivor(function_of(mutant), before, after)


def explained(text: str) -> dict[Survivor, str]:
    """Return each survivor of the file with the reason why it changes nothing."""
    rows = tomllib.loads(text).get("survivor", [])
    return {Survivor(row["function"], row["before"], row["after"]): row["reason"] for row in rows}


def faults(found: Iterable[Survivor], known: Iterable[Survivor]) -> list[str]:
    """Return a line for each survivor without an explanation, and for each explanation without a survivor."""
    found, known = set(found), set(known)
    new = [f"survived: {one.function}\n  - {one.before}\n  + {one.after}" for one in sorted(found - known)]
    return new + [f"explained, and not a survivor: {one.function}: {one.after}" for one in sorted(known - found)]


def survivors(*, at_once: int) -> list[Survivor]:
    """Run mutmut on a copy of the tree, so many mutants at once."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in _COPIED:
            source = CHECKOUT / name
            if source.is_dir():
                shutil.copytree(source, home / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
            else:
                shutil.copyfile(source, home / name)
        subprocess.run([*_MUTMUT, "run", "--max-children", str(at_once)], cwd=home, check=True)
        said = subprocess.run([*_MUTMUT, "results"], cwd=home, check=True, capture_output=True, text=True).stdout
        shown = {
            name: subprocess.run([*_MUTMUT, "show", name], cwd=home, check=True, capture_output=True, text=True).stdout
            for name in _RESULT.findall(said)
        }
    return [survivor_of(name, diff) for name, diff in shown.items()]


def main() -> int:
    """Print what survived without a reason; the status is 1 if there is any."""
    known = explained(EXPLAINED.read_text("utf-8"))
    found = faults(survivors(at_once=2), known)
    print("\n".join(found) or "Every mutant was killed or is explained.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
