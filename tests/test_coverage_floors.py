"""The check of coverage notices a room below its floor and a floor without a room."""

from __future__ import annotations

import tomllib

from tests.coverage_floors import below, ranges
from tests.support.programs import CHECKOUT

SOURCE = CHECKOUT / "src" / "orbital_relay"


def test_a_room_below_its_floor_is_named():
    """[FLOOR1] A package below its coverage floor is an error, with its coverage and the lines that no test ran."""
    rooms = {"core": (100, {"core/hub.py": [7, 8]}), "wire": (50, {"wire/events.py": [3]})}

    assert below({"core": 98, "wire": 98}, rooms) == []
    assert below({"core": 100, "wire": 98}, rooms) == [
        "core: the tests ran 98.00 % of the lines, and the floor is 100 %. Not run: core/hub.py 7-8"
    ]


def test_a_floor_without_a_room_is_named():
    """[FLOOR2] A floor without a measured package is an error: a renamed package keeps its floor."""
    assert below({"core": 100}, {"wire": (1, {})}) == ["core has a floor and no measured line"]


def test_lines_are_joined_to_runs():
    """[FLOOR4] Lines that no test ran are named as runs."""
    assert ranges([3, 7, 8, 9, 11]) == "3, 7-9, 11"
    assert ranges([]) == ""


def test_every_room_has_a_floor():
    """[FLOOR3] Each subpackage has a coverage floor, each floor has a subpackage, and that of the core is 100 %."""
    floors = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["orbital"]["coverage-floors"]
    rooms = {
        path.stem
        for path in SOURCE.iterdir()
        if (path.suffix == ".py" and not path.stem.startswith("_")) or (path / "__init__.py").exists()
    }

    assert set(floors) == rooms
    assert floors["core"] == 100
