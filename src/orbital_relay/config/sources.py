"""Where the text of a setting comes from: an option, the environment, the file of a secret, a configuration file."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from orbital_relay.config.settings import OPTIONS
from orbital_relay.errors import SettingsInvalid

CONFIG_ENV: Final = "ORBITAL_CONFIG"
"""The variable that names the configuration file when no option does."""

MAX_FILE_BYTES: Final = 1024 * 1024
"""Largest configuration file or secret that is read."""

OTHER_NAMES: Final = frozenset({CONFIG_ENV, "ORBITAL_TOKEN", "ORBITAL_URL"})
"""Variables of the command line that are not settings of a server."""


class GivenText(msgspec.Struct, frozen=True):
    """
    The text of a setting, and where it was given.

    Attributes:
        name: The name under which it was given, for error messages.
        text: The text.
        source: `option`, `environment` or `file`.
        place: The name and, for a file, its path, such as `JWT_SECRET_FILE=/run/secrets/jwt`.
    """

    name: str
    text: str
    source: str
    place: str


def from_options(flags: Mapping[str, str | None]) -> dict[str, GivenText]:
    """Return what the command line gave, by field."""
    return {
        option.field: GivenText(option.flag, text, "option", option.flag)
        for option in OPTIONS
        if (text := flags.get(option.field)) is not None
    }


def from_environment(environ: Mapping[str, str]) -> dict[str, GivenText]:
    """
    Return what the environment gave, by field. An empty variable counts as not set, except JWT_SECRET.

    Raises:
        SettingsInvalid: If a secret is given twice, or the file of one cannot be read.
    """
    found = {}
    for option in OPTIONS:
        text = environ.get(option.env)
        if text is not None and (text.strip() or option.field == "jwt_secret"):
            found[option.field] = GivenText(option.env, text, "environment", option.env)
        path = environ.get(option.file_env, "") if option.secret else ""
        if path.strip():
            if option.field in found:
                raise SettingsInvalid(f"{option.env} and {option.file_env} are both set; remove one of them.")
            found[option.field] = _secret_of(option.file_env, Path(path.strip()), "environment")
    return found


def from_file(path: Path) -> dict[str, GivenText]:
    """
    Return what a configuration file (TOML) gives, by field.

    A key is a setting's option without the dashes before it, `data-dir`; `data_dir` and `ORBITAL_DATA_DIR` mean the
    same. A secret may be named by its file, `jwt-secret-file`.

    Raises:
        SettingsInvalid: If the file cannot be read, is not TOML, or has a key that is not a setting.
    """
    try:
        with path.open("rb") as opened:
            table = tomllib.loads(opened.read(MAX_FILE_BYTES).decode())
    except OSError as exc:
        raise SettingsInvalid(f"The configuration file {path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise SettingsInvalid(f"The configuration file {path} is not TOML: {exc}.") from exc
    known = {_key(option.env): option for option in OPTIONS}
    files = {_key(option.file_env): option for option in OPTIONS if option.secret}
    found: dict[str, GivenText] = {}
    for key, value in table.items():
        option = known.get(_key(key)) or files.get(_key(key))
        names = {each: each for each in (*known, *files)}
        if option is None:
            raise SettingsInvalid(
                f"{path}: {key[:100]!r} is not a setting{nearest(_key(key), names)} `orbital config` lists all of them."
            )
        name = f"{key} in {path}"
        text = _text(value)
        if text is None:
            raise SettingsInvalid(f"{name} is a table or a date; it must be {option.kind.allowed}.")
        if option.field in found:
            raise SettingsInvalid(f"{name}: this setting is given twice in the file; remove one of them.")
        if _key(key) in files:
            # Relative to the file that names it: the folder in which a service starts is chance.
            found[option.field] = _secret_of(name, path.parent / Path(text).expanduser(), "file")
        else:
            found[option.field] = GivenText(name, text, "file", f"{path} ({key})")
    return found


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that looks like a setting and is not one."""
    known = [option.env for option in OPTIONS]
    known += [option.file_env for option in OPTIONS if option.secret]
    by_key = {_key(name): name for name in known}
    return [
        f"{name} is not a setting and does nothing{nearest(_key(name), by_key)}"
        for name in sorted(environ)
        if name.startswith("ORBITAL_") and name not in known and name not in OTHER_NAMES
    ]


def nearest(key: str, known: Mapping[str, str]) -> str:
    """Return `; did you mean …?` with the name whose key is nearest, or a full stop if none is near."""
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {known[close[0]]}?" if close else "."


def _key(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("orbital-")


def _text(value: Any) -> str | None:  # noqa: ANN401 - any value that TOML has
    match value:
        case bool():
            return "on" if value else "off"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(each, str | int) for each in value):
            return ",".join(map(str, value))
        case _:
            return None


def _secret_of(name: str, path: Path, source: str) -> GivenText:
    """Read a secret from its file; the line feed that an editor adds at the end is not part of it."""
    try:
        with path.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES).decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise SettingsInvalid(f"{name} names the file {path}, which cannot be read: {exc.strerror}.") from exc
    text = re.sub(r"\r?\n\Z", "", text)
    if not text:
        raise SettingsInvalid(f"{name} names the file {path}, which is empty.")
    return GivenText(name, text, source, f"{name}={path}" if source == "environment" else f"{name}: {path}")
