"""Settings out of flags and the environment: the only place that reads it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from orbital_relay.config.settings import OPTIONS, Option, Settings
from orbital_relay.errors import SettingsInvalid


def load(flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """
    Read all settings: a flag goes before the environment, the environment before the default.

    An empty variable counts as not set, so that `PORT=` in a compose file harms nobody; an empty JWT_SECRET alone is
    refused, since its author meant to give one.

    Args:
        flags: Texts by field name, as the command line has them; None where a flag was not given.
        environ: The environment; the process' own when left out.

    Raises:
        SettingsInvalid: If one of them is not allowed; the sentence names it, what was given and what would do.
    """
    flags = flags or {}
    environ = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    for option in OPTIONS:
        given = flags.get(option.field)
        name = option.env if given is None else option.flag
        text = environ.get(option.env) if given is None else given
        if text is None or (not text.strip() and given is None and option.field != "jwt_secret"):
            continue
        found[option.field] = _read(option, name, text)
    if found.get("jwt_public_key_file") and found.get("jwt_jwks_url"):
        raise SettingsInvalid(
            "ORBITAL_JWT_PUBLIC_KEY_FILE and ORBITAL_JWT_JWKS_URL are both set; give one of them: "
            "an outside provider's keys come from one place."
        )
    return Settings(**found)


def _read(option: Option, name: str, text: str) -> object:
    if option.field == "jwt_secret":
        if not text:
            raise SettingsInvalid(f"{name} is empty; give it a value, or leave it out and one is made and kept.")
        return text
    try:
        if not text.strip():
            raise ValueError(text)
        return option.kind.read(text.strip())
    except ValueError:
        given = "set to something else" if option.secret else f"{text[:100]!r}"
        raise SettingsInvalid(f"{name} is {given}; it must be {option.kind.allowed}.") from None


def doubts(settings: Settings, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each thing that is allowed and probably not meant; for warnings at the start."""
    environ = os.environ if environ is None else environ
    sentences = []
    if settings.jwt_secret is not None and len(settings.jwt_secret.encode("utf-8", "surrogateescape")) < 32:
        # RFC 7518 §3.2: a key for HS256 has at least the size of the hash.
        sentences.append("JWT_SECRET has fewer than 32 bytes, so tokens could be forged by trying secrets.")
    if settings.jwt_secret is None and settings.redis_url is not None:
        sentences.append(
            "REDIS_URL is set and JWT_SECRET is not: servers with data folders of their own refuse each other's tokens."
        )
    if settings.signups == "open" and not settings.local:
        gib = settings.media_group_bytes / 2**30
        sentences.append(
            f"ORBITAL_SIGNUPS is open on an address that others reach ({settings.host}): anybody can make accounts and "
            f"groups here, and store up to {gib:g} GiB of media in each. `invited` asks for an invitation."
        )
    sentences += [
        f"{option.env} holds a carriage return: the file that it comes from has Windows line ends (CRLF). "
        "Convert the file, or servers and tools that read it otherwise will not agree."
        for option in OPTIONS
        if "\r" in environ.get(option.env, "")
    ]
    known = [option.env for option in OPTIONS]
    for name in sorted(environ):
        if name in known or not name.startswith("ORBITAL_"):
            continue
        # 0.9 catches a letter too many or too few, and leaves ORBITAL_TOKEN to the tools that use it.
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        if close:
            sentences.append(f"{name} is not a setting and does nothing; did you mean {close[0]}?")
    return sentences
