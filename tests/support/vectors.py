"""The shared vectors, read once for the tests that run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"


def load(name: str) -> dict[str, Any]:
    """Read one file of vectors."""
    with (VECTORS / f"{name}.json").open(encoding="utf-8") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded


def cases(name: str, *, key: str = "cases") -> list[Any]:
    """Give the cases of one file; an empty list would prove nothing, so it is an error."""
    found: list[Any] = load(name)[key]
    assert found, f"spec/vectors/{name}.json has no {key}"
    return found


def named(case: Any) -> str:
    """Give a case's name for the test report."""
    return str(case["name"])
