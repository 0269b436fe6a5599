"""Load settings from options, the environment and a configuration file: the only place that reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from orbital_relay.config.database import without_credentials
from orbital_relay.config.settings import OPTIONS, Option, Settings
from orbital_relay.config.sources import CONFIG_ENV, GivenText, from_environment, from_file, from_options
from orbital_relay.errors import SettingsInvalid


class EffectiveSetting(msgspec.Struct, frozen=True):
    """
    A setting as it is in effect.

    Attributes:
        option: The setting.
        shown: The value as text; a secret is masked.
        source: `default`, `file`, `environment` or `option`.
        place: The variable, the option, or the file and key that gave it; empty for a default.
    """

    option: Option
    shown: str
    source: str
    place: str


def load(
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    file: str | None = None,
) -> Settings:
    """
    Read all settings: an option overrides the environment, the environment the file, the file the default.

    An empty variable counts as not set, so that `PORT=` in a compose file means the default; an empty JWT_SECRET alone
    is refused, since its author meant to give one.

    Args:
        flags: Texts by field name, as the command line has them; None where an option was not given.
        environ: The environment; the process' own when left out.
        file: The configuration file; the one that ORBITAL_CONFIG names when left out.

    Raises:
        SettingsInvalid: If one of them is not allowed; the sentence names it, what was given and what is allowed.
    """
    return _parsed(_given(flags, environ, file))


def in_force(
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    file: str | None = None,
) -> list[EffectiveSetting]:
    """
    Return every setting with its value and where it was given; see `load` for the arguments.

    Raises:
        SettingsInvalid: As `load` does.
    """
    given = _given(flags, environ, file)
    settings = _parsed(given)
    found = []
    for option in OPTIONS:
        here = given.get(option.field)
        source, place = ("default", "") if here is None else (here.source, here.place)
        found.append(EffectiveSetting(option, _shown(option, settings), source, place))
    return found


def environment(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return `environ`, or the process' own environment if it is None."""
    return os.environ if environ is None else environ


def _given(
    flags: Mapping[str, str | None] | None, environ: Mapping[str, str] | None, file: str | None
) -> dict[str, GivenText]:
    environ = environment(environ)
    path = file or environ.get(CONFIG_ENV, "").strip()
    return {
        **({} if not path else from_file(Path(path).expanduser())),
        **from_environment(environ),
        **from_options(flags or {}),
    }


def _parsed(given: Mapping[str, GivenText]) -> Settings:
    # In the order of the table, so that the first mistake in it is the one that is reported.
    found: dict[str, Any] = {
        option.field: _read(option, given[option.field]) for option in OPTIONS if option.field in given
    }
    if found.get("jwt_public_key_file") and found.get("jwt_jwks_url"):
        raise SettingsInvalid(
            "ORBITAL_JWT_PUBLIC_KEY_FILE and ORBITAL_JWT_JWKS_URL are both set; give one of them: "
            "an outside provider's keys come from one place."
        )
    if "tls_cert" not in found:
        for field, name in (("tls_key", "ORBITAL_TLS_KEY"), ("redirect_port", "ORBITAL_REDIRECT_PORT")):
            if field in found:
                raise SettingsInvalid(f"{name} is set and ORBITAL_TLS_CERT is not; give the certificate too.")
    elif "uds" in found:
        raise SettingsInvalid(
            "ORBITAL_UDS and ORBITAL_TLS_CERT are both set; give one of them: who connects to a Unix socket is on this "
            "machine, and the proxy there has the certificate."
        )
    return Settings(**found)


def _read(option: Option, given: GivenText) -> object:
    name, text = given.name, given.text
    if option.field in {"jwt_secret", "jwt_secret_accepted"}:
        # Spaces may be part of a secret.
        if not text:
            made = " and one is made and kept" if option.field == "jwt_secret" else ""
            raise SettingsInvalid(f"{name} is empty; give it a value, or leave it out{made}.")
        return text
    try:
        if not text.strip():
            raise ValueError(text)
        return option.kind.read(text.strip())
    except ValueError:
        shown = "set to something else" if option.secret else f"{text[:100]!r}"
        raise SettingsInvalid(f"{name} is {shown}; it must be {option.kind.allowed}.") from None


def take_service_variables(environ: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """
    Return what systemd says to this process by the environment, and remove it there: children must not act on it.

    The variables are those of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3); missing ones are left out.
    """
    environ = os.environ if environ is None else environ
    names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    return {name: environ.pop(name) for name in names if name in environ}


def _shown(option: Option, settings: Settings) -> str:
    value = getattr(settings, option.field)
    match value:
        case None:
            return option.default
        case bool():
            return "on" if value else "off"
        case str() if option.secret:
            return f"{without_credentials(value)} (without credentials)" if "://" in value else "***"
        case tuple() | frozenset():
            return ",".join(sorted(map(str, value))) if value else option.default
        case _:
            return str(value)
