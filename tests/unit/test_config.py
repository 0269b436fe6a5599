"""Settings: what is read from where, what is refused and how, and that no secret shows."""

from __future__ import annotations

import stat
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital import config
from orbital.config import OPTIONS, Postgres, Settings, SqliteFile, load
from orbital.errors import SettingsInvalid

ROOT = Path(__file__).parents[2]

# The protocol's own names and defaults, section 3: they are fixed, so they stand here a second time.
FIXED = {
    "PORT": 3000,
    "ORBITAL_HOST": "127.0.0.1",
    "DATABASE_URL": None,
    "REDIS_URL": None,
    "ORBITAL_DATA_DIR": Path("var"),
    "JWT_SECRET": None,
    "ORBITAL_CONNECT_LIMIT": 5,
    "ORBITAL_CONNECT_CEILING": 60,
    "ORBITAL_CONNECT_POLICY": "home",
    "ORBITAL_LOGIN_LIMIT": 10,
    "ORBITAL_SIGNUP_LIMIT": 10,
    "ORBITAL_JOIN_LIMIT": 20,
    "ORBITAL_REQUEST_LIMIT": 600,
    "ORBITAL_FRAME_RATE": 50,
    "ORBITAL_HEARTBEAT_SECONDS": 30,
    "ORBITAL_RETENTION_DAYS": 7,
    "ORBITAL_PRUNE_SECONDS": 60,
    "ORBITAL_TRUSTED_PROXIES": (),
    "ORBITAL_ALLOWED_ORIGINS": frozenset(),
    "ORBITAL_LOG_LEVEL": "info",
    "ORBITAL_LOG_FORMAT": None,
}


def test_the_protocols_settings_are_all_there():
    """[SET1] Every setting of the protocol's section 3 has its name and its default."""
    settings = load({}, {})

    found = {option.env: getattr(settings, option.field) for option in OPTIONS}

    assert {env: found.get(env, "missing") for env in FIXED} == FIXED


def test_each_setting_has_one_flag_and_one_variable():
    """[SET2] No two settings share a flag, a variable or a field, and none lacks its sentence or its reason."""
    for key in ("env", "flag", "field"):
        names = [getattr(option, key) for option in OPTIONS]
        assert len(set(names)) == len(names) == len(Settings.__struct_fields__)
    assert all(option.about.endswith(".") and option.why.endswith(".") and option.default for option in OPTIONS)
    assert all(option.env in option.help and option.default in option.help for option in OPTIONS)


def test_a_flag_goes_before_the_environment_and_that_before_the_default():
    """[SET3] Precedence is flag, environment, default."""
    assert load({"port": "1"}, {"PORT": "2"}).port == 1
    assert load({"port": None}, {"PORT": "2"}).port == 2
    assert load({"port": None}, {}).port == 3000


def test_an_empty_variable_counts_as_not_set():
    """[SET4] `PORT=` in a compose file is the default, but an empty JWT_SECRET or flag is refused."""
    empty = {option.env: " " for option in OPTIONS if option.env != "JWT_SECRET"}

    assert load({}, empty) == Settings()
    with pytest.raises(SettingsInvalid, match="JWT_SECRET is empty; give it a value"):
        load({}, {"JWT_SECRET": ""})
    with pytest.raises(SettingsInvalid, match="--port is ''; it must be a whole number from 0 to 65535"):
        load({"port": ""}, {})


def test_the_process_environment_is_read_when_none_is_given(monkeypatch):
    """[SET5] Without arguments the process' own environment counts."""
    monkeypatch.setenv("PORT", "4711")

    assert load().port == 4711


@pytest.mark.parametrize(
    "env, text, value",
    [
        ("PORT", "0", 0),
        ("PORT", " 8080 ", 8080),
        ("ORBITAL_HOST", "::", "::"),
        ("ORBITAL_HOST", "[::1]", "::1"),
        ("ORBITAL_HOST", "0.0.0.0", "0.0.0.0"),
        ("ORBITAL_DATA_DIR", "/srv/orbital", Path("/srv/orbital")),
        ("DATABASE_URL", "sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("DATABASE_URL", "postgres://u:p@h:5432/d?sslmode=require", "postgresql://u:p@h:5432/d?sslmode=require"),
        ("DATABASE_URL", "postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("REDIS_URL", "redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("JWT_SECRET", " x ", " x "),
        ("ORBITAL_HEARTBEAT_SECONDS", "0.2", 0.2),
        ("ORBITAL_RETENTION_DAYS", "0.00002", 0.00002),
        ("ORBITAL_PRUNE_SECONDS", "0.5", 0.5),
        ("ORBITAL_FRAME_RATE", "12.5", 12.5),
        ("ORBITAL_CONNECT_POLICY", "STRICT", "strict"),
        ("ORBITAL_DEFLATE", "off", False),
        ("ORBITAL_DEFLATE", "1", True),
        ("ORBITAL_CLOSE_PACE", "0", 0),
        (
            "ORBITAL_TRUSTED_PROXIES",
            "10.0.0.0/8, 127.0.0.1 ::1,fd00::1/64",
            tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.1/32", "::1/128", "fd00::/64"))),
        ),
        (
            "ORBITAL_ALLOWED_ORIGINS",
            "https://Chat.example.org, http://localhost:5173/ https://a.example:443 http://[::1]:80 http://b.example:443",
            frozenset(
                {
                    "https://chat.example.org",
                    "http://localhost:5173",
                    "https://a.example",
                    "http://[::1]",
                    "http://b.example:443",
                }
            ),
        ),
        ("ORBITAL_JWT_ALGORITHMS", "eddsa,RS256", ("EdDSA", "RS256")),
        ("ORBITAL_JWT_JWKS_URL", "http://127.0.0.1:8000/jwks", "http://127.0.0.1:8000/jwks"),
        ("ORBITAL_JWT_PUBLIC_KEY_FILE", "/k.pem", Path("/k.pem")),
        ("ORBITAL_LOG_FORMAT", "JSON", "json"),
    ],
)
def test_good_values_are_read(env, text, value):
    """[SET6] What a setting allows is read, with its type, from variable and flag alike."""
    (option,) = (option for option in OPTIONS if option.env == env)

    assert getattr(load({}, {env: text}), option.field) == value
    assert getattr(load({option.field: text}, {}), option.field) == value


@pytest.mark.parametrize(
    "env, text",
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("PORT", "3e3"),
        ("PORT", "٣٠٠٠"),
        ("PORT", "9" * 5000),
        ("ORBITAL_HOST", "a b"),
        ("ORBITAL_HOST", "http://x/"),
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "orbital.db"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite://relative.db"),
        ("DATABASE_URL", "sqlite:///a.db?mode=ro"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", "postgresql://h:port/d"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("ORBITAL_CONNECT_LIMIT", "0"),
        ("ORBITAL_CONNECT_LIMIT", "five"),
        ("ORBITAL_CONNECT_POLICY", "lenient"),
        ("ORBITAL_FRAME_RATE", "nan"),
        ("ORBITAL_FRAME_RATE", "inf"),
        ("ORBITAL_HEARTBEAT_SECONDS", "0"),
        ("ORBITAL_HEARTBEAT_SECONDS", "30s"),
        ("ORBITAL_RETENTION_DAYS", "0"),
        ("ORBITAL_DEFLATE", "maybe"),
        ("ORBITAL_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("ORBITAL_TRUSTED_PROXIES", "proxy.example.org"),
        ("ORBITAL_ALLOWED_ORIGINS", "chat.example.org"),
        ("ORBITAL_ALLOWED_ORIGINS", "https://*.example.org"),
        ("ORBITAL_ALLOWED_ORIGINS", "https://example.org/path"),
        ("ORBITAL_JWT_ALGORITHMS", "HS256"),
        ("ORBITAL_JWT_ALGORITHMS", "RS256,none"),
        ("ORBITAL_JWT_JWKS_URL", "http://example.org/jwks"),
        ("ORBITAL_JWT_JWKS_URL", "file:///etc/passwd"),
        ("ORBITAL_LOG_LEVEL", "trace"),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence(env, text):
    """[SET7] A value that is not allowed raises, naming the setting, what was given and what would do."""
    (option,) = (option for option in OPTIONS if option.env == env)

    with pytest.raises(SettingsInvalid) as by_variable:
        load({}, {env: text})
    with pytest.raises(SettingsInvalid) as by_flag:
        load({option.field: text}, {})

    assert str(by_variable.value).startswith(f"{env} is ")
    assert str(by_flag.value).startswith(f"{option.flag} is ")
    for refusal in (by_variable, by_flag):
        assert f"it must be {option.kind.allowed}" in str(refusal.value)
        assert len(str(refusal.value)) < 400
        assert option.secret is (repr(text[:100]) not in str(refusal.value))


@given(st.sampled_from(OPTIONS), st.text())
def test_whatever_is_given_there_is_a_value_or_a_sentence(option, text):
    """[SET8] No text makes reading fail in any other way than SettingsInvalid."""
    try:
        settings = load({option.field: text}, {})
    except SettingsInvalid:
        return
    assert msgspec.structs.replace(settings) == settings


def test_two_sources_of_outside_keys_are_refused():
    """[SET9] A key file and a key address exclude each other."""
    both = {"ORBITAL_JWT_PUBLIC_KEY_FILE": "k.pem", "ORBITAL_JWT_JWKS_URL": "https://idp.example.org/jwks"}

    with pytest.raises(SettingsInvalid, match="both set"):
        load({}, both)


@pytest.mark.parametrize(
    "url, database, shown",
    [
        (None, SqliteFile(Path("d/orbital.db")), "sqlite:///d/orbital.db"),
        ("sqlite:///x.db", SqliteFile(Path("x.db")), "sqlite:///x.db"),
        ("sqlite:////var/x.db", SqliteFile(Path("/var/x.db")), "sqlite:////var/x.db"),
        (
            "postgres://u:hush@h:1/d?password=hush",
            Postgres("postgresql://u:hush@h:1/d?password=hush"),
            "postgresql://h:1/d",
        ),
    ],
)
def test_the_database_is_taken_apart(url, database, shown):
    """[SET10] The address says file or server; what a log may show of it has no credentials."""
    settings = load({"database_url": url, "data_dir": "d"}, {})

    assert settings.database == database
    assert settings.database.shown == shown
    assert "hush" not in repr(settings.database)


def test_no_secret_shows():
    """[SET11] The text of the settings has every field, and secrets as stars."""
    settings = load(
        {}, {"JWT_SECRET": "hush1", "DATABASE_URL": "postgresql://u:hush2@h/d", "REDIS_URL": "redis://:hush3@h"}
    )

    for text in (repr(settings), str(settings), f"{settings}", repr([settings])):
        assert "hush" not in text
        assert all(f"{option.field}=" in text for option in OPTIONS)
    assert "jwt_secret=None" in repr(Settings())


def test_doubts_are_told():
    """[SET12] A short secret, a cluster without one, and a misspelt variable each get a sentence; good ones none."""
    assert config.doubts(Settings(), {"ORBITAL_TOKEN": "x", "HOME": "/", "PORT": "1"}) == []
    assert config.doubts(Settings(jwt_secret="x" * 32), {}) == []

    assert "fewer than 32 bytes" in config.doubts(Settings(jwt_secret="x" * 31), {})[0]
    assert "of their own" in config.doubts(Settings(redis_url="redis://h"), {})[0]
    assert config.doubts(Settings(), {"ORBITAL_CONECT_LIMIT": "5"}) == [
        "ORBITAL_CONECT_LIMIT is not a setting and does nothing; did you mean ORBITAL_CONNECT_LIMIT?"
    ]


def test_doubts_read_the_process_environment(monkeypatch):
    """[SET12] Without an environment given, the process' own is looked at."""
    monkeypatch.setenv("ORBITAL_HEARTBEAT_SECOND", "5")

    assert any("ORBITAL_HEARTBEAT_SECONDS?" in sentence for sentence in config.doubts(Settings()))


def test_options_by_field():
    """[SET13] A command takes the settings that it needs, and asking for one that is not there is a bug."""
    assert [option.field for option in config.options("jwt_secret", "data_dir")] == ["data_dir", "jwt_secret"]
    with pytest.raises(AssertionError, match="no such setting"):
        config.options("prot")


# Chapter: files


def test_the_secret_is_made_once_and_kept(tmp_path):
    """[SET14] Without JWT_SECRET one is made in the data folder, for its owner alone, and is the same next time."""
    settings = Settings(data_dir=tmp_path / "deep" / "var")

    first = config.read_jwt_secret(settings)

    assert len(first) >= 32
    assert config.read_jwt_secret(settings) == first
    path = tmp_path / "deep" / "var" / "jwt-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert config.read_jwt_secret(Settings(data_dir=tmp_path / "other")) != first


def test_a_given_secret_is_used_and_nothing_is_made(tmp_path):
    """[SET15] JWT_SECRET goes before the kept one, byte for byte."""
    settings = Settings(data_dir=tmp_path / "var", jwt_secret="schlüssel")

    assert config.read_jwt_secret(settings) == "schlüssel".encode()
    assert not (tmp_path / "var").exists()


def test_servers_that_start_at_once_share_one_secret(tmp_path):
    """[SET16] Sixteen threads that make the secret at the same moment all get the same one."""
    settings = Settings(data_dir=tmp_path / "var")
    together = threading.Barrier(16)
    found: list[bytes] = []

    def start() -> None:
        together.wait()
        found.append(config.read_jwt_secret(settings))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 16
    assert len(set(found)) == 1
    assert list((tmp_path / "var").iterdir()) == [tmp_path / "var" / "jwt-secret"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    """[SET17] A secret file with a loose mode stops the server with the command that mends it."""
    settings = Settings(data_dir=tmp_path)
    config.read_jwt_secret(settings)
    (tmp_path / "jwt-secret").chmod(mode)

    with pytest.raises(SettingsInvalid, match=r"can be read by others.*chmod 600"):
        config.read_jwt_secret(settings)


def test_a_secret_file_without_a_secret_is_refused(tmp_path):
    """[SET17] An empty secret file never becomes an empty secret."""
    path = tmp_path / "jwt-secret"
    path.touch(mode=0o600)

    with pytest.raises(SettingsInvalid, match="holds no secret of ours"):
        config.read_jwt_secret(Settings(data_dir=tmp_path))


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path):
    """[SET18] A file where the data folder should be is told by name."""
    (tmp_path / "var").write_text("")

    with pytest.raises(SettingsInvalid, match=r"The data folder .*var cannot be made: File exists\."):
        config.read_jwt_secret(Settings(data_dir=tmp_path / "var"))


def test_a_secret_that_is_a_folder_is_refused(tmp_path):
    """[SET18] What cannot be read as a secret is told by name."""
    (tmp_path / "jwt-secret").mkdir(mode=0o700)

    with pytest.raises(SettingsInvalid, match=r"jwt-secret cannot be used: Is a directory\."):
        config.read_jwt_secret(Settings(data_dir=tmp_path))


def test_the_public_key_file_is_read(tmp_path):
    """[SET19] The outside key is read from its file; a missing file and a private key are refused."""
    pem = tmp_path / "key.pem"
    pem.write_bytes(b"-----BEGIN PUBLIC KEY-----\n")

    assert config.read_jwt_public_key(Settings()) is None
    assert config.read_jwt_public_key(Settings(jwt_public_key_file=pem)) == b"-----BEGIN PUBLIC KEY-----\n"
    with pytest.raises(SettingsInvalid, match="cannot be read: No such file"):
        config.read_jwt_public_key(Settings(jwt_public_key_file=tmp_path / "none.pem"))
    pem.write_bytes(b"-----BEGIN EC PRIVATE KEY-----\n")
    with pytest.raises(SettingsInvalid, match="holds a private key"):
        config.read_jwt_public_key(Settings(jwt_public_key_file=pem))


# Chapter: the reference


def test_the_reference_is_current():
    """[SET20] docs/reference/settings.md is what the table says now."""
    written = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")

    assert written == config.reference(), "run: python -m orbital.config > docs/reference/settings.md"


def test_the_reference_has_a_row_for_each_setting():
    """[SET21] Every setting stands in the reference once, with as many cells as its head has."""
    rows = [line for line in config.reference().splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == [option.env for option in OPTIONS]
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)


def test_defaults_are_what_their_texts_say():
    """[SET22] A default, written as its text, reads back as itself."""
    texts: dict[str, Any] = {}
    for field, option in zip(msgspec.structs.fields(Settings), OPTIONS, strict=True):
        value = load({}, {})
        if option.default in {"any", "none", "not checked"} or " " in option.default:
            continue
        texts[field.name] = option.default
        assert getattr(load({field.name: option.default}, {}), field.name) == getattr(value, field.name)
    assert len(texts) > 20
