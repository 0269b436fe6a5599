"""Programs that others wrote, found or skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import programs, published
from tests.support.process import Program

HERE = Path(__file__).parent


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start programs with a standard input; what still runs at the end is killed."""
    started: list[Program] = []

    def begin(*command: str | Path) -> Program:
        started.append(Program(command, stdin=True, cwd=HERE))
        return started[-1]

    yield begin
    for program in started:
        program.kill()


@pytest.fixture
def wscat(node: str) -> tuple[str, str]:
    """The command that starts wscat."""
    return node, str(programs.node_package(HERE, "wscat") / "bin" / "wscat")


@pytest.fixture
def shipped_client(node: str, start: Callable[..., Program], tmp_path: Path) -> Callable[[str, str], Program]:
    """Start the published client class in Node for an API address (`ws://…`) and a token."""
    programs.node_package(HERE, "ws")
    text = tmp_path / "published_client.js"
    text.write_text(published.client_class(), "utf-8")

    def begin(url: str, token: str) -> Program:
        return start(node, HERE / "drive_published.mjs", text, published.NAME, url, token)

    return begin
