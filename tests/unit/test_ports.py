"""The ports: small, and each method with its guarantee."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

from orbital_relay import ports

SUMS = {"Store", "MediaRows"}
PROTOCOLS = [
    port
    for module in pkgutil.iter_modules(ports.__path__, f"{ports.__name__}.")
    for name, port in vars(importlib.import_module(module.name)).items()
    if name not in SUMS and getattr(port, "_is_protocol", False) and port.__module__ == module.name
]


def methods(port: type) -> list[str]:
    """Return the methods that a port declares itself."""
    return [name for name, value in vars(port).items() if not name.startswith("_") and callable(value)]


def test_the_list_of_ports_is_not_empty():
    """[PRT1] The list of ports is not empty, so the checks below test something."""
    assert {"Log", "Uploads", "Blobs", "Bus", "Clock", "Limiter"} <= {port.__name__ for port in PROTOCOLS}


@pytest.mark.parametrize("port", PROTOCOLS, ids=lambda port: port.__name__)
def test_a_port_is_small_and_documented(port: type):
    """[PRT2] A port has at most eight methods, and each method's docstring states its guarantee."""
    named = methods(port)

    assert 0 < len(named) <= 8
    assert [name for name in named if not inspect.getdoc(getattr(port, name))] == []


@pytest.mark.parametrize("name", sorted(SUMS))
def test_a_union_of_ports_adds_no_method(name: str):
    """[PRT3] The full interface of one adapter is a union of ports and adds no method of its own."""
    assert methods(getattr(ports, name)) == []
