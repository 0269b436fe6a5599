"""Settings out of flags and the environment: what is read, what is refused and how."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay import config
from orbital_relay.config import OPTIONS, Settings, load
from orbital_relay.errors import SettingsInvalid


def test_flags_override_the_environment_and_the_defaults():
    """[SET3] A flag takes precedence over the environment, and the environment over the default."""
    assert load({"port": "1"}, {"PORT": "2"}).port == 1
    assert load({"port": None}, {"PORT": "2"}).port == 2
    assert load({"port": None}, {}).port == 3000


def test_an_empty_variable_counts_as_not_set():
    """[SET4] `PORT=` in a compose file means the default, but an empty JWT_SECRET or flag is refused."""
    empty = {option.env: " " for option in OPTIONS if option.env != "JWT_SECRET"}
    empty |= {option.file_env: " " for option in OPTIONS if option.secret}

    assert load({}, empty) == Settings()
    with pytest.raises(SettingsInvalid, match="JWT_SECRET is empty; give it a value"):
        load({}, {"JWT_SECRET": ""})
    with pytest.raises(SettingsInvalid, match="--port is ''; it must be a whole number from 0 to 65535"):
        load({"port": ""}, {})


def test_the_process_environment_is_read_when_none_is_given(monkeypatch):
    """[SET5] Without arguments the process environment is used."""
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
        ("DATABASE_URL", "postgres://u@h:1,i:2/d", "postgresql://u@h:1,i:2/d"),
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
    """[SET6] Every allowed value of a setting is parsed to its type, from the variable and from the flag."""
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
    """[SET7] A value that is not allowed raises an error with the setting, the value and the allowed values."""
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
def test_any_input_is_a_value_or_an_error_message(option, text):
    """[SET8] Any text either parses or raises SettingsInvalid."""
    try:
        settings = load({option.field: text}, {})
    except SettingsInvalid:
        return
    assert msgspec.structs.replace(settings) == settings


def test_two_sources_of_provider_keys_are_refused():
    """[SET9] A key file and a key address are mutually exclusive."""
    both = {"ORBITAL_JWT_PUBLIC_KEY_FILE": "k.pem", "ORBITAL_JWT_JWKS_URL": "https://idp.example.org/jwks"}

    with pytest.raises(SettingsInvalid, match="both set"):
        load({}, both)


def test_doubtful_settings_are_reported():
    """[SET12] A short secret, a cluster without a secret, and a misspelt variable each get a warning."""
    assert config.doubts(Settings(), {"ORBITAL_TOKEN": "x", "HOME": "/", "PORT": "1"}) == []
    assert config.doubts(Settings(jwt_secret="x" * 32), {}) == []

    assert "Windows line ends" in config.doubts(Settings(), {"JWT_SECRET": "x" * 32 + "\r"})[0]
    assert "fewer than 32 bytes" in config.doubts(Settings(jwt_secret="x" * 31), {})[0]
    assert "of their own" in config.doubts(Settings(redis_url="redis://h"), {})[0]
    assert config.doubts(Settings(), {"ORBITAL_CONECT_LIMIT": "5"}) == [
        "ORBITAL_CONECT_LIMIT is not a setting and does nothing; did you mean ORBITAL_CONNECT_LIMIT?"
    ]


def test_warnings_read_the_process_environment(monkeypatch):
    """[SET23] Without an environment argument, the process environment is checked."""
    monkeypatch.setenv("ORBITAL_HEARTBEAT_SECOND", "5")

    assert any("ORBITAL_HEARTBEAT_SECONDS?" in sentence for sentence in config.doubts(Settings()))


def test_defaults_match_their_descriptions():
    """[SET22] A default, formatted as text, parses back to itself."""
    texts: dict[str, Any] = {}
    for field, option in zip(msgspec.structs.fields(Settings), OPTIONS, strict=True):
        value = load({}, {})
        if option.default in {"any", "none", "not checked"} or " " in option.default:
            continue
        texts[field.name] = option.default
        assert getattr(load({field.name: option.default}, {}), field.name) == getattr(value, field.name)
    assert len(texts) > 20
