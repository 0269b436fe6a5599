"""The check of mutants: every survivor is explained, and no explanation is stale."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch

from tests.mutation import EXPLAINED, Survivor, explained, faults, function_of, survivor_of
from tests.support.programs import CHECKOUT

MUTATED = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]["only_mutate"]

DIFF = """--- src/orbital_relay/core/wheel.py
+++ src/orbital_relay/core/wheel.py
@@ -1,4 +1,4 @@
 def turn(self):
-    self._at = 1
+    self._at = 2
"""


def test_a_survivor_is_read_from_its_diff():
    """[MUT1] A survivor is identified by its function and the line before and after, not by mutmut's number."""
    assert function_of("orbital_relay.core.wheel.xǁWheelǁturn__mutmut_3") == "core.wheel.Wheel.turn"
    assert function_of("orbital_relay.core.chain.x_prev_of__mutmut_16") == "core.chain.prev_of"
    assert survivor_of("orbital_relay.core.wheel.xǁWheelǁturn__mutmut_3", DIFF) == Survivor(
        "core.wheel.Wheel.turn", "self._at = 1", "self._at = 2"
    )


def test_a_survivor_without_a_reason_is_a_fault():
    """[MUT2] A survivor without an explanation is an error, and so is an explanation without a survivor."""
    first, second = Survivor("a.b", "x = 1", "x = 2"), Survivor("a.c", "y = 1", "y = 2")

    assert faults([first], [first]) == []
    assert faults([first], []) == ["survived: a.b\n  - x = 1\n  + x = 2"]
    assert faults([], [second]) == ["explained, and not a survivor: a.c: y = 2"]


def test_every_explanation_has_an_existing_line():
    """[MUT3] Each explained survivor has a reason, and its line is in a module that is mutated."""
    known = explained(EXPLAINED.read_text("utf-8"))
    assert len(known) >= 5
    assert all(known.values())
    for one in known:
        path = f"src/orbital_relay/{'/'.join(one.function.split('.')[:2])}.py"
        assert any(fnmatch(path, pattern) for pattern in MUTATED)
        assert one.before in " ".join((CHECKOUT / path).read_text("utf-8").split()), (
            "several lines are joined by spaces"
        )


def test_every_module_of_the_core_and_the_wire_is_mutated():
    """[MUT4] Mutation testing changes each module of `core` and `wire`, new ones too."""
    source = CHECKOUT / "src" / "orbital_relay"
    modules = [
        path.relative_to(CHECKOUT).as_posix() for room in ("core", "wire") for path in (source / room).glob("*.py")
    ]

    assert len(modules) >= 20
    assert [path for path in modules if not any(fnmatch(path, pattern) for pattern in MUTATED)] == []
