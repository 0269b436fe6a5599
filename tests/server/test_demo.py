"""`orbital serve --demo`: everything works, and nothing remains."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Serve


def test_a_demonstration_leaves_nothing(serve: Serve, tmp_path: Path):
    """[DEMO1] The demonstration prints its address; its data is in its own folder, which is deleted at the end."""
    own, place = tmp_path / "own", tmp_path / "tmp"
    own.mkdir()
    place.mkdir()

    server = serve(args=["--demo"], env={"TMPDIR": str(place)}, data_dir=own)

    (folder,) = place.glob("orbital-demo-*")
    assert (folder / "orbital.db").exists()
    assert any(re.search(r"http://localhost:\d+/\?demo=now$", line) for line in server.log), server.log
    assert list(own.iterdir()) == []
    assert server.terminate() == 0
    assert list(place.iterdir()) == []
