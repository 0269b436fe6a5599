"""The base install: what the SDK and its commands import, and that nothing in them is for one system only."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib

import pytest

from tests.support.programs import CHECKOUT

CLIENT = sorted((CHECKOUT / "src" / "orbital_relay" / "client").rglob("*.py"))
OF_ONE_SYSTEM = {"fcntl", "grp", "msvcrt", "posix", "pwd", "resource", "syslog", "termios", "tty", "winreg"}
"""Modules that Python has on some systems only."""

LOOK = """
import importlib.metadata, sys
before = set(sys.modules)  # what the environment itself loads at start
import {module}
of = importlib.metadata.packages_distributions()
roots = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted({{name.lower() for root in roots for name in of.get(root, [])}}))
"""


def distributions(module: str) -> set[str]:
    """Return the distributions that a fresh Python loads for a module."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(module=module)], check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


def closure(names: set[str]) -> set[str]:
    """Add what distributions need themselves, and what these ones can use when it is there (websockets: proxies)."""
    import importlib.metadata
    import re

    found: set[str] = set()
    names = {name.lower() for name in names}
    left = list(names)
    while left:
        name = left.pop().lower()
        if name in found:
            continue
        found.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        left += [
            match[0]
            for need in needs
            if ("extra ==" not in need or name in names) and (match := re.match(r"[\w.-]+", need))
        ]
    return found


@pytest.mark.parametrize(
    "module",
    [
        "orbital_relay.client",
        *(f"orbital_relay.commands.{name}" for name in ("tail", "send", "media")),
        "orbital_relay.cli",
    ],
)
def test_the_base_install_suffices(module: str) -> None:
    """[BAS1] The SDK and its commands import only packages of the base install."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    base = {need.partition(">")[0].partition("=")[0] for need in project["dependencies"]}

    # websockets uses python-socks when it is there, and says so nowhere in its metadata.
    assert distributions(module) - closure(base) <= {"orbital-relay", "python-socks"}


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_platform_is_supported(path) -> None:
    """[BAS2] No SDK module uses loop signal handlers or imports a platform-specific module without a check."""
    tree = ast.parse(path.read_text("utf-8"))
    # What stands under `if sys.platform == …: … else: …` was chosen for the system.
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "sys.platform" in ast.unparse(node.test))
    ]
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert not imported & OF_ONE_SYSTEM
    assert not used & {"add_signal_handler", "fork", "SIGKILL", "geteuid", "uname"}
