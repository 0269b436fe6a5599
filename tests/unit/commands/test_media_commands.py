"""`orbital media put` and `get`, over a depot of the tests' own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import orbital_relay.client
from orbital_relay.commands import media as commands
from orbital_relay.commands.media import media
from tests.support.depot import DATA, KNOWN, Depot

AUTH = ["--url", "http://orbital.test", "--token", "t"]


@pytest.fixture
def depot(monkeypatch: pytest.MonkeyPatch) -> Depot:
    """The media side of a server, in the place of the REST side."""
    made = Depot()
    monkeypatch.setattr(orbital_relay.client, "Api", lambda *_, **__: made.new_api())
    return made


def test_put_and_get(depot: Depot, tmp_path: Path) -> None:
    """[CMD8] A downloaded file equals the uploaded one byte for byte; the hash and the IV are printed."""
    (tmp_path / "in").write_bytes(DATA)

    put = CliRunner().invoke(
        media, ["put", "thread", str(tmp_path / "in"), "--metadata", "bQ==", "--iv", "aXY=", *AUTH]
    )
    got = CliRunner().invoke(media, ["get", KNOWN, str(tmp_path / "out"), *AUTH])

    assert put.exit_code == 0, put.output
    assert "has 2,560 bytes and is kept until soon." in put.output
    assert got.exit_code == 0, got.output
    assert "IV aXY=" in got.output
    assert (tmp_path / "out").read_bytes() == DATA
    assert depot.downloaded == [KNOWN]


def test_get_without_progress(depot: Depot, tmp_path: Path) -> None:
    """[CMD13] With --no-report the group is not notified of the download."""
    got = CliRunner().invoke(media, ["get", KNOWN, str(tmp_path / "out"), "--no-report", *AUTH])

    assert got.exit_code == 0, got.output
    assert depot.downloaded == []


def test_put_resumes(depot: Depot, tmp_path: Path) -> None:
    """[CMD9] With --media-id only the missing chunks are sent."""
    (tmp_path / "in").write_bytes(DATA)
    depot.totals[KNOWN], depot.chunks[KNOWN] = 1, {0: DATA}

    put = CliRunner().invoke(
        media, ["put", "t", str(tmp_path / "in"), "--metadata", "bQ==", "--iv", "aXY=", "--media-id", KNOWN, *AUTH]
    )

    assert put.exit_code == 0, put.output
    assert depot.fields == []


def test_get_does_not_overwrite(depot: Depot, tmp_path: Path) -> None:
    """[CMD10] An existing file is kept unless --force is given."""
    (tmp_path / "out").write_bytes(b"precious")

    refused = CliRunner().invoke(media, ["get", KNOWN, str(tmp_path / "out"), *AUTH])
    assert refused.exit_code == 2
    assert "exists already" in refused.output
    assert (tmp_path / "out").read_bytes() == b"precious"
    forced = CliRunner().invoke(media, ["get", KNOWN, str(tmp_path / "out"), "--force", *AUTH])
    assert forced.exit_code == 0, forced.output
    assert (tmp_path / "out").read_bytes() == DATA


def test_refusals_are_sentences(depot: Depot, tmp_path: Path) -> None:
    """[CMD11] A refusal by the server prints one sentence and exits with status 1."""
    from tests.support.fake import refusal

    depot.troubles = [refusal(410, "GONE")]
    got = CliRunner().invoke(media, ["get", KNOWN, str(tmp_path / "out"), *AUTH])

    assert got.exit_code == 1
    assert got.output == "Error: GONE it is.\n"


async def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """[CMD12] On a terminal a progress bar runs to the end; --quiet or a redirect to a file shows no bar."""

    class Terminal(io.StringIO):
        watched = True

        def isatty(self) -> bool:
            return self.watched

    async def transfer(progress: Any) -> str:
        if progress is not None:
            for done in range(0, 101, 10):
                progress(done, 100)
        return "done"

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    assert await commands._shown("Sending", True, transfer) == "done"
    terminal.watched = False
    assert await commands._shown("Sending", False, transfer) == "done"
    assert terminal.getvalue() == ""
    terminal.watched = True
    assert await commands._shown("Sending", False, transfer) == "done"
    assert "100%" in terminal.getvalue()
