"""
`python -m tests.coverage_floors`: check the share of lines that the tests ran, room by room, against the floors.

The floors are in pyproject.toml, `[tool.orbital.coverage-floors]`: a room of the package, and per cent of its lines.
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from coverage import Coverage

from tests.support.programs import CHECKOUT

PACKAGE: Final = CHECKOUT / "src" / "orbital_relay"


def measured(coverage: Coverage) -> dict[str, tuple[int, dict[str, list[int]]]]:
    """
    Return for each room how many lines it has, and the lines of each file that no test ran.

    All files of the package count, also one that no test imports.
    """
    rooms: dict[str, tuple[int, dict[str, list[int]]]] = defaultdict(lambda: (0, {}))
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        room = name.partition("/")[0].removesuffix(".py")
        _, lines, _, missing, _ = coverage.analysis2(str(path))
        total, files = rooms[room]
        rooms[room] = (total + len(lines), {**files, name: missing} if missing else files)
    return dict(rooms)


def ranges(lines: list[int]) -> str:
    """Return line numbers with runs joined, such as "3, 7-9"."""
    runs: list[tuple[int, int]] = []
    for line in lines:
        if runs and line == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], line)
        else:
            runs.append((line, line))
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def below(floors: Mapping[str, float], rooms: Mapping[str, tuple[int, dict[str, list[int]]]]) -> list[str]:
    """Return a line for each room that is below its floor, and one for each floor without a room."""
    faults = []
    for room, floor in floors.items():
        total, files = rooms.get(room, (0, {}))
        if total == 0:
            faults.append(f"{room} has a floor and no measured line")
            continue
        share = 100 * (1 - sum(len(missing) for missing in files.values()) / total)
        if share < floor:
            where = "; ".join(f"{name} {ranges(missing)}" for name, missing in files.items())
            faults.append(
                f"{room}: the tests ran {share:.2f} % of the lines, and the floor is {floor} %. Not run: {where}"
            )
    return faults


def main() -> int:
    """Print the faults; the status is 1 if there are any."""
    coverage = Coverage(config_file=str(CHECKOUT / "tests" / "coverage.toml"))
    coverage.load()
    manifest = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    rooms = measured(coverage)
    for room, (total, files) in sorted(rooms.items()):
        missing = sum(len(lines) for lines in files.values())
        print(f"{room:12} {total:6} lines, {missing:4} that no test ran: {100 * (1 - missing / max(total, 1)):6.2f} %")
    faults = below(manifest["tool"]["orbital"]["coverage-floors"], rooms)
    print("\n".join(faults) or "Every room is at or above its floor.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
