"""
`python -m tests.coverage_floors`: check the share of lines that the tests ran, room by room, against the floors.

The floors are in pyproject.toml, `[tool.orbital.coverage-floors]`: a room of the package, and per cent of its lines.
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping

from coverage import Coverage

from tests.support.programs import CHECKOUT


def measured(coverage: Coverage) -> dict[str, tuple[int, dict[str, list[int]]]]:
    """Return for each room how many lines it has, and the lines of each file that no test ran."""
    rooms: dict[str, tuple[int, dict[str, list[int]]]] = defaultdict(lambda: (0, {}))
    for path in sorted(coverage.get_data().measured_files()):
        name = path.rpartition("/orbital_relay/")[2]
        room = name.partition("/")[0].removesuffix(".py")
        _, lines, _, missing, _ = coverage.analysis2(path)
        total, files = rooms[room]
        rooms[room] = (total + len(lines), {**files, name: missing} if missing else files)
    return dict(rooms)


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
            where = "; ".join(f"{name} {missing}" for name, missing in files.items())
            faults.append(f"{room}: {share:.2f} % of the lines, the floor is {floor} %: {where}")
    return faults


def main() -> int:
    """Print the faults; the status is 1 if there are any."""
    coverage = Coverage(config_file=str(CHECKOUT / "tests" / "coverage.toml"))
    coverage.load()
    manifest = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    rooms = measured(coverage)
    for room, (total, files) in sorted(rooms.items()):
        print(f"{room:12} {total:6} lines, {sum(len(missing) for missing in files.values())} that no test ran")
    faults = below(manifest["tool"]["orbital"]["coverage-floors"], rooms)
    print("\n".join(faults) or "Every room is at or above its floor.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
