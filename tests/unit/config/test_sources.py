"""Settings out of a configuration file and out of files that hold a secret, and where each was given."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from orbital_relay import config
from orbital_relay.config import OPTIONS, EffectiveSetting, Settings, in_force, load
from orbital_relay.config.sources import MAX_FILE_BYTES
from orbital_relay.errors import SettingsInvalid

SECRET = "a secret of forty characters, for a test."


def _file(folder: Path, text: str, name: str = "orbital.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def _by_env(found: list[EffectiveSetting]) -> dict[str, tuple[str, str, str]]:
    return {each.option.env: (each.shown, each.source, each.place) for each in found}


def test_a_file_is_read(tmp_path: Path):
    """[CFG1] A TOML file gives settings by the names of options, in three spellings, with TOML's types."""
    path = _file(
        tmp_path,
        'host = "::1"\nport = 8080\ndata_dir = "/srv/orbital"\nORBITAL_DEFLATE = false\nframe-rate = 12.5\n'
        'trusted-proxies = ["10.0.0.0/8", "::1"]\njwt-secret = "x"\n',
    )

    read = load({}, {}, file=str(path))

    assert read == Settings(
        host="::1",
        port=8080,
        data_dir=Path("/srv/orbital"),
        deflate=False,
        frame_rate=12.5,
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
        jwt_secret="x",
    )
    assert load({}, {"ORBITAL_CONFIG": str(path)}) == read


def test_what_overrides_what(tmp_path: Path):
    """[CFG2] An option overrides the environment, the environment the file, the file the default; each is reported."""
    path = _file(tmp_path, "port = 1\nlogin-limit = 1\njoin-limit = 1\n")

    found = _by_env(in_force({"port": "3"}, {"PORT": "2", "ORBITAL_LOGIN_LIMIT": "2"}, file=str(path)))

    assert found["PORT"] == ("3", "option", "--port")
    assert found["ORBITAL_LOGIN_LIMIT"] == ("2", "environment", "ORBITAL_LOGIN_LIMIT")
    assert found["ORBITAL_JOIN_LIMIT"] == ("1", "file", f"{path} (join-limit)")
    assert found["ORBITAL_SIGNUP_LIMIT"] == ("10", "default", "")
    assert set(found) == {option.env for option in OPTIONS}


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("prot = 1", "'prot' is not a setting; did you mean port?"),
        ("data-dri = 'x'", "did you mean data-dir?"),
        ("jwt_secret_fil = 'x'", "did you mean jwt-secret-file?"),
        ("zzz = 1", "'zzz' is not a setting. `orbital config` lists"),
        ("port-file = 'x'", "'port-file' is not a setting"),
        ("port = 99999", "is '99999'; it must be a whole number from 0 to 65535"),
        ("host = 1979-05-27", "is a table or a date; it must be a host name"),
        ("[port]\nnumber = 1", "is a table or a date"),
        ("data-dir = 'x'\ndata_dir = 'y'", "is given twice"),
        ("port = ", "is not TOML"),
        ("jwt-secret = ''", "is empty; give it a value"),
        ("trusted-proxies = [[1]]", "is a table or a date"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, sentence: str):
    """[CFG3] An unknown key is refused with the nearest name; so is a value that is not allowed, each with the file."""
    path = _file(tmp_path, text)

    with pytest.raises(SettingsInvalid) as refused:
        load({}, {}, file=str(path))

    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_that_is_missing_is_refused(tmp_path: Path):
    """[CFG4] A configuration file that cannot be read is refused; it is never skipped."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsInvalid, match="cannot be read"):
            load({}, {}, file=str(path))
    (tmp_path / "latin").write_bytes(b"name = '\xff'")
    with pytest.raises(SettingsInvalid, match="not TOML"):
        load({}, {}, file=str(tmp_path / "latin"))


def test_secrets_come_from_files(tmp_path: Path):
    """[CFG5] Every secret can be given as a file, in the environment and in the configuration file."""
    values = {"JWT_SECRET": SECRET, "DATABASE_URL": "postgresql://u:p@h/d", "REDIS_URL": "redis://:p@h"}
    values["JWT_SECRET_ACCEPTED"] = f"{SECRET}, the one before"
    environ = {f"{env}_FILE": str(_file(tmp_path, f"{value}\n", env)) for env, value in values.items()}
    path = _file(tmp_path, "".join(f"{env.lower()}_file = '{env}'\n" for env in values))

    for read in (load({}, environ), load({}, {}, file=str(path))):
        found = (read.jwt_secret, read.database_url, read.redis_url, read.jwt_secret_accepted)
        assert found == tuple(values.values())
    assert {option.env for option in OPTIONS if option.secret} == set(values)
    assert _by_env(in_force({}, environ))["JWT_SECRET"][1:] == (
        "environment",
        f"JWT_SECRET_FILE={tmp_path / 'JWT_SECRET'}",
    )


def test_a_secret_file_that_cannot_be_used(tmp_path: Path):
    """[CFG6] A secret's file that is missing or empty, or a secret that is given twice, is refused."""
    with pytest.raises(SettingsInvalid, match=r"JWT_SECRET_FILE names the file .*none, which cannot be read"):
        load({}, {"JWT_SECRET_FILE": str(tmp_path / "none")})
    with pytest.raises(SettingsInvalid, match="which is empty"):
        load({}, {"JWT_SECRET_FILE": str(_file(tmp_path, "\n"))})
    with pytest.raises(SettingsInvalid, match="JWT_SECRET and JWT_SECRET_FILE are both set"):
        load({}, {"JWT_SECRET_FILE": str(_file(tmp_path, SECRET)), "JWT_SECRET": SECRET})
    # Only the last line feed is the editor's; and a device without end is read up to a bound.
    assert load({}, {"JWT_SECRET_FILE": str(_file(tmp_path, " a\n\n"))}).jwt_secret == " a\n"
    assert load({}, {"JWT_SECRET_FILE": "/dev/zero"}).jwt_secret == "\0" * MAX_FILE_BYTES


def test_no_secret_is_shown(tmp_path: Path):
    """[CFG7] A secret is masked wherever it was given; of an address, host and path are shown."""
    found = in_force(
        {"redis_url": "redis://:hunter2@cache:6379/1"},
        {"JWT_SECRET_FILE": str(_file(tmp_path, SECRET)), "DATABASE_URL": "postgresql://u:hunter2@db/orbital"},
    )

    shown = _by_env(found)
    assert shown["JWT_SECRET"][0] == "***"
    assert shown["DATABASE_URL"][0] == "postgresql://db/orbital (without credentials)"
    assert shown["REDIS_URL"][0] == "redis://cache:6379/1 (without credentials)"
    assert "hunter2" not in repr(shown)
    assert SECRET not in repr(shown)


def test_unknown_variables_are_warned_of():
    """[CFG8] A variable that begins with ORBITAL_ and is not a setting is a warning, with the nearest name."""
    known = {"ORBITAL_CONFIG": "x", "ORBITAL_URL": "x", "ORBITAL_TOKEN": "x", "JWT_SECRET_FILE": "x", "PATH": "/"}

    assert config.doubts(Settings(), known) == []
    assert config.doubts(Settings(), {"ORBITAL_ZZZZ": "1"}) == ["ORBITAL_ZZZZ is not a setting and does nothing."]
    assert config.doubts(Settings(), {"ORBITAL_SIGNUP": "closed"}) == [
        "ORBITAL_SIGNUP is not a setting and does nothing; did you mean ORBITAL_SIGNUPS?"
    ]
    assert "did you mean JWT_SECRET" in config.doubts(Settings(), {"ORBITAL_JWT_SECRET": "x"})[0]


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (Settings(media_chunk_bytes=2, media_file_bytes=1), "ORBITAL_MEDIA_CHUNK_BYTES (2) is larger"),
        (Settings(media_file_bytes=2**40), "is larger than ORBITAL_MEDIA_GROUP_BYTES"),
        (Settings(media_total_bytes=2**30), "ORBITAL_MEDIA_TOTAL_BYTES (1073741824) is smaller"),
        (Settings(trusted_proxies=(ip_network("::/0"),)), "trusts every address"),
        (Settings(host="0.0.0.0", public_url="http://a.example"), "without TLS"),
        (Settings(redis_url="redis://h", jwt_secret="x" * 32), "a cluster needs PostgreSQL"),
    ],
)
def test_contradictions_are_reported(settings: Settings, sentence: str):
    """[CFG9] Settings that contradict each other are each one warning that says what to change."""
    (found,) = config.doubts(settings, {})

    assert sentence in found
