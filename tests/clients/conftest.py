"""One real server for the tests of a module that do it no harm: starting one takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import Server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with everything as by default, but no limits; it has to end well, without having said a secret."""
    server = Server(tmp_path_factory.mktemp("shared")).start()
    yield server
    status = server.close()
    assert not server.complaints(), "\n".join(server.log)
    assert status == 0
