"""The table of settings: names, defaults, and that no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbital_relay import config
from orbital_relay.config import OPTIONS, Settings, load

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


def test_every_setting_of_the_protocol_exists():
    """[SET1] Every setting of section 3 of the protocol has the name and default stated there."""
    settings = load({}, {})

    found = {option.env: getattr(settings, option.field) for option in OPTIONS}

    assert {env: found.get(env, "missing") for env in FIXED} == FIXED


def test_each_setting_has_one_flag_and_one_variable():
    """[SET2] No two settings share a flag, a variable or a field, and each has a description and a reason."""
    for key in ("env", "flag", "field"):
        names = [getattr(option, key) for option in OPTIONS]
        assert len(set(names)) == len(names) == len(Settings.__struct_fields__)
    assert all(option.about.endswith(".") and option.why.endswith(".") and option.default for option in OPTIONS)
    assert all(option.env in option.help and option.default in option.help for option in OPTIONS)


def test_no_secret_shows():
    """[SET11] The text form of the settings has every field, with secrets masked."""
    settings = load(
        {}, {"JWT_SECRET": "hush1", "DATABASE_URL": "postgresql://u:hush2@h/d", "REDIS_URL": "redis://:hush3@h"}
    )

    for text in (repr(settings), str(settings), f"{settings}", repr([settings])):
        assert "hush" not in text
        assert all(f"{option.field}=" in text for option in OPTIONS)
    assert "jwt_secret=None" in repr(Settings())


def test_options_by_field():
    """[SET13] A command loads only the settings that it declares; reading another one raises."""
    assert [option.field for option in config.options("jwt_secret", "data_dir")] == ["data_dir", "jwt_secret"]
    with pytest.raises(AssertionError, match="no such setting"):
        config.options("prot")
