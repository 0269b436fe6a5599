"""The check of coverage notices a room below its floor and a floor without a room."""

from __future__ import annotations

import tomllib

from tests.coverage_floors import below
from tests.support.programs import CHECKOUT

SOURCE = CHECKOUT / "src" / "orbital_relay"


def test_a_room_below_its_floor_is_named():
    """[FLOOR1] A room below its floor is an error with its coverage and the lines that no test ran."""
    rooms = {"core": (100, {"core/hub.py": [7, 8]}), "wire": (50, {"wire/events.py": [3]})}

    assert below({"core": 98, "wire": 98}, rooms) == []
    assert below({"core": 100, "wire": 98}, rooms) == [
        "core: 98.00 % of the lines, the floor is 100 %: core/hub.py [7, 8]"
    ]


def test_a_floor_without_a_room_is_named():
    """[FLOOR2] A floor whose room was not measured is an error: a renamed room keeps its floor."""
    assert below({"core": 100}, {"wire": (1, {})}) == ["core has a floor and no measured line"]


def test_every_floor_has_a_room():
    """[FLOOR3] Each floor belongs to a room of the package, and the floor of the core is 100 %."""
    floors = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["orbital"]["coverage-floors"]
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert set(floors) <= rooms
    assert floors["core"] == 100
