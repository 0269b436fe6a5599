"""
The Autobahn test suite's fuzzing client against the edge, with an echo in the real session's place.

The suite runs on Python 2.7 alone. Where there is none it is skipped, also under ORBITAL_TESTS_COMPLETE:
tests/server/test_edge_rfc.py and test_edge_deflate.py carry the same rules in our own words, and always run.

The suite expects an echo of its binary messages, which the edge refuses with 1003: the cases that send them are left
out, and test_edge_rfc.py has the rule.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge import running_edge
from tests.support.programs import CHECKOUT

pytestmark = pytest.mark.outside

REQUIREMENTS = Path(__file__).with_name("autobahn_requirements.txt")
# Created once per checkout; var/ is local to the machine.
PACKAGES = CHECKOUT / "var" / "autobahn"
# What sends binary messages: 1.2, and of section 12 a bitmap, a text that is read as bytes, and a PDF.
BINARY = ["1.2.*", "12.2.*", "12.3.*", "12.5.*"]
FINE = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}
START = (
    "import site, sys; site.addsitedir(sys.argv[1]); del sys.argv[1]; from autobahntestsuite.wstest import run; run()"
)


def python2() -> str:
    """Return the path of a Python 2.7, from PATH or from pyenv."""
    pyenv = {Path(sys.base_prefix).parent, Path.home() / ".pyenv/versions"}
    if root := os.environ.get("PYENV_ROOT"):
        pyenv.add(Path(root) / "versions")
    candidates = [shutil.which("python2.7"), *(path for folder in pyenv for path in folder.glob("2.7*/bin/python2.7"))]
    for candidate in candidates:
        if candidate is not None and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return str(candidate)
    pytest.skip("Python 2.7, which the Autobahn suite runs on, is missing; pyenv install 2.7.18")


@pytest.fixture(scope="module")
def suite() -> list[str]:
    """The command that starts the suite; its packages are fetched the first time."""
    python = python2()
    if not PACKAGES.exists():
        making = PACKAGES.with_name(f"autobahn.{os.getpid()}")
        made = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--target", making, "-r", REQUIREMENTS],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            shutil.rmtree(making, ignore_errors=True)
            pytest.skip(f"the Autobahn suite cannot be installed for {python}: {made.stderr.strip()[-300:]}")
        try:
            making.rename(PACKAGES)
        except OSError:
            # Another run was faster.
            shutil.rmtree(making)
    return [python, "-W", "ignore", "-c", START, str(PACKAGES)]


def run(suite: list[str], cases: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Run cases of the suite; returns what it reports of each."""
    with running_edge(max_message_bytes=2**24) as edge:
        url = f"ws://127.0.0.1:{edge.port}/ws"
        specification = {
            "outdir": str(folder / "reports"),
            "servers": [{"agent": "edge", "url": url}],
            "cases": cases,
            "exclude-cases": BINARY,
            "exclude-agent-cases": {},
        }
        (folder / "fuzzingclient.json").write_text(json.dumps(specification), "utf-8")
        done = subprocess.run(
            [*suite, "-m", "fuzzingclient", "-s", "fuzzingclient.json"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    reports: dict[str, dict[str, Any]] = json.loads((folder / "reports" / "index.json").read_text("utf-8"))["edge"]
    return reports


def assert_nothing_failed(reports: dict[str, dict[str, Any]]) -> None:
    """No case failed, neither in what was said nor in how it was ended."""
    failed = {
        case: (report["behavior"], report["behaviorClose"])
        for case, report in reports.items()
        if report["behavior"] not in FINE or report["behaviorClose"] not in FINE
    }
    assert failed == {}


def test_rfc_6455(suite: list[str], tmp_path: Path):
    """[OUT31] Sections 1 to 7 and 10 pass: framing, pings, bits, opcodes, fragments, UTF-8, closing."""
    reports = run(suite, [f"{section}.*" for section in (1, 2, 3, 4, 5, 6, 7, 10)], tmp_path)

    assert_nothing_failed(reports)
    # 247 without the eight of 1.2.
    assert len(reports) == 239
    # A message in one frame is validated when it is complete; 6.4.3 and 6.4.4 expect validation as it arrives.
    lax = {case for case, report in reports.items() if report["behavior"] == "NON-STRICT"}
    assert lax == {"6.4.3", "6.4.4"}


def test_rfc_7692_in_short(suite: list[str], tmp_path: Path):
    """[OUT32] The shortest cases of sections 12 and 13 pass: compression, and each type of negotiation."""
    groups = ["12.1", "12.4", *(f"13.{group}" for group in range(1, 8))]
    cases = [f"{group}.{case}" for group in groups for case in (1, 2)]
    reports = run(suite, cases, tmp_path)

    assert_nothing_failed(reports)
    assert set(reports) == set(cases)
    assert_only_small_windows_are_declined(reports)


@pytest.mark.soak
def test_rfc_7692(suite: list[str], tmp_path: Path):
    """[OUT33] All of sections 12 and 13 pass, a thousand messages each; ten minutes, mostly the suite's own."""
    reports = run(suite, ["12.*", "13.*"], tmp_path)

    assert_nothing_failed(reports)
    # 216 without the three groups that send binary messages.
    assert len(reports) == 162
    assert_only_small_windows_are_declined(reports)


def assert_only_small_windows_are_declined(reports: dict[str, dict[str, Any]]) -> None:
    """Where compression did not come about, the client would have a smaller server window than ours, or nothing."""
    declined = {case.rpartition(".")[0] for case, report in reports.items() if report["behavior"] == "UNIMPLEMENTED"}
    assert declined == {"13.3", "13.5"}
