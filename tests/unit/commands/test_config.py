"""`orbital config`, run as a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orbital_relay.cli import main

SECRET = "a secret of forty characters, for a test."


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch):
    for name in ("PORT", "JWT_SECRET", "DATABASE_URL", "REDIS_URL", "ORBITAL_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_settings_are_listed(tmp_path: Path):
    """[CFG10] `orbital config` lists value and origin of each setting, warns on standard error, and shows no secret."""
    path = tmp_path / "orbital.toml"
    path.write_text("port = 8080\n", "utf-8")

    done = CliRunner().invoke(
        main,
        ["config", "--config", str(path), "--host", "::1"],
        env={"JWT_SECRET": SECRET, "ORBITAL_LOGIN_LIMT": "3"},
    )

    assert done.exit_code == 0
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()}
    assert rows["PORT"].split() == ["8080", "file:", str(path), "(port)"]
    assert rows["ORBITAL_HOST"].split() == ["::1", "option:", "--host"]
    assert rows["JWT_SECRET"].split() == ["***", "environment:", "JWT_SECRET"]
    assert rows["ORBITAL_WORKERS"].split() == ["1", "default"]
    assert "did you mean ORBITAL_LOGIN_LIMIT?" in done.stderr
    assert SECRET not in done.output


def test_the_settings_as_json():
    """[CFG11] `--json` prints one array with name, option, value, source, place and default; `--changed` filters."""
    done = CliRunner().invoke(main, ["config", "--json", "--changed", "--port", "4"])

    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["PORT"] == {
        "name": "PORT",
        "option": "--port",
        "value": "4",
        "source": "option",
        "place": "--port",
        "default": "3000",
    }
    assert "ORBITAL_WORKERS" not in rows


def test_a_bad_setting_is_a_sentence():
    """[CFG12] A setting that cannot be used is one sentence, and the status is 1; every command reads the file."""
    none = ["--config", "/none.toml"]
    for command in (["config", "--port", "x"], ["migrate", *none], ["health", *none]):
        done = CliRunner().invoke(main, command)

        assert done.exit_code == 1
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.output
