"""A thousand lies of a proxy before the real server, to the JavaScript client."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support import programs
from tests.support.programs import CHECKOUT

LIES = 1_000


@pytest.mark.soak
def test_a_thousand_lies() -> None:
    """[HOSTILE2] Each of 1,000 seeded lies by a proxy is detected by CipherClient; honest answers cause no warning."""
    folder = CHECKOUT / "clients" / "e2ee"
    programs.node_package(folder, "@noble/hashes")
    command = [programs.node(), "--test", "--test-timeout=900000", "test/hostile.test.js"]
    env = {**os.environ, "ORBITAL_LIES": str(LIES)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=1_000)

    assert (done.returncode, f"each of {LIES} seeded lies" in done.stdout.lower()) == (0, True), done.stdout
