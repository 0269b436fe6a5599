"""Parse and validate the text of a setting, with the error message if it is invalid."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec

Network: TypeAlias = IPv4Network | IPv6Network


class Kind(msgspec.Struct, frozen=True):
    """
    How the text of a setting becomes its value.

    Attributes:
        metavar: What stands for the value in `--help`.
        allowed: What may be given, ending the sentence "it must be …".
        read: Makes the value; a ValueError says that the text is not allowed.
    """

    metavar: str
    allowed: str
    read: Callable[[str], Any]


def whole(low: int, high: int, *, unit: str = "") -> Kind:
    """Read a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(text)
        number = int(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return Kind("NUMBER", f"a whole number{unit} from {low} to {high}", read)


def number(low: float, high: float, *, unit: str) -> Kind:
    """Read a number, with a fraction if need be, within bounds."""

    def read(text: str) -> float:
        number = float(text)
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(text)
        return number

    return Kind("NUMBER", f"a number of {unit} from {low:g} to {high:g}; a fraction is allowed", read)


def choice(*words: str) -> Kind:
    """Read one of a few words, in whatever case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return Kind("|".join(words), "one of " + ", ".join(words), read)


def _read_switch(text: str) -> bool:
    switches = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    if text.lower() not in switches:
        raise ValueError(text)
    return switches[text.lower()]


def _read_host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", bare):
        raise ValueError(text)
    return bare


def _read_path(text: str) -> Path:
    if "\0" in text:
        raise ValueError(text)
    return Path(text).expanduser()


def _read_database_url(text: str) -> str:
    if text.startswith("sqlite:///"):
        path = text.removeprefix("sqlite:///")
        # A database in memory would forget what it answered for; `?` and `#` would begin options that nobody reads.
        if not path.strip("/") or path.startswith(":memory:") or any(mark in path for mark in "?#\0"):
            raise ValueError(text)
        return text
    parts = urlsplit(text)
    if parts.scheme not in {"postgres", "postgresql"} or not (parts.netloc or parts.path.strip("/") or parts.query):
        raise ValueError(text)
    for host in parts.netloc.rpartition("@")[2].split(","):
        _ = urlsplit(f"//{host}").port  # raises ValueError when it is no number
    return f"postgresql:{text.partition(':')[2]}"


def _read_redis_url(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port
    if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.path):
        raise ValueError(text)
    return text


def _read_media_url(text: str) -> str:
    parts = urlsplit(text)
    known = {"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"}
    if parts.scheme not in known or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(text)
    # Keys in an address end up in process lists and logs; the store's own variables are their place.
    if "@" in parts.netloc and parts.scheme not in {"abfs", "abfss"}:
        raise ValueError(text)
    return text


def _read_https_url(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port
    # Keys that came over an open line could be anybody's; a loopback address never leaves the machine.
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ValueError(text)
    return text


def _read_name(text: str) -> str:
    if len(text) > 80 or not text.isprintable():
        raise ValueError(text)
    return text


def _read_address(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError(text)
    if parts.query or parts.fragment or re.search(r"[\s#?]", text):
        raise ValueError(text)
    return text.rstrip("/")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _read_contact(text: str) -> str:
    if not re.fullmatch(r"(mailto:[^\s@]+@[^\s@]+|https://[^\s/]+\S*)", text) or not text.isascii():
        raise ValueError(text)
    return text


def _read_networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(word, strict=False) for word in _words(text))


def _read_origins(text: str) -> frozenset[str]:
    origins = []
    for word in _words(text.lower()):
        if word == "null":
            # RFC 6454 §6.2: what a browser sends for a file:// page and a sandboxed frame.
            origins.append(word)
            continue
        parts = urlsplit(word)
        _ = parts.port
        # RFC 6454 §6.1: an origin is scheme, host and port, and nothing after.
        if not parts.scheme or not parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(text)
        if "*" in word or "@" in parts.netloc:
            raise ValueError(text)
        # A browser leaves the scheme's own port out, so it never matches one that is written.
        default_port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        origins.append(f"{parts.scheme}://{_in_ascii(parts.scheme, parts.netloc).removesuffix(default_port)}")
    return frozenset(origins)


def _in_ascii(scheme: str, place: str) -> str:
    """Return host and port of an origin as browsers send them: other letters in Punycode (RFC 6454 §6.2)."""
    if place.isascii():
        return place
    import httpx  # noqa: PLC0415 - takes 0.1 s, and few names need it

    try:
        return httpx.URL(f"{scheme}://{place}").netloc.decode("ascii")
    except httpx.InvalidURL as exc:
        raise ValueError(place) from exc


ASYMMETRIC: Final = ("RS256", "ES256", "EdDSA")
"""Signatures of an outside identity provider. HS256 is never among them: a public key must not become a secret."""


def _read_algorithms(text: str) -> tuple[str, ...]:
    known = {name.lower(): name for name in ASYMMETRIC}
    found = tuple(dict.fromkeys(known[word] for word in _words(text.lower()) if word in known))
    if not found or len(found) != len(set(_words(text.lower()))):
        raise ValueError(text)
    return found


def _read_text(text: str) -> str:
    return text


TEXT: Final = Kind("TEXT", "not empty", _read_text)
NAME: Final = Kind("TEXT", "up to 80 visible characters", _read_name)
ADDRESS: Final = Kind(
    "URL", "an https:// or http:// address without query, such as https://talk.example.org", _read_address
)
HOST: Final = Kind("ADDRESS", "a host name or an IP address, such as 127.0.0.1, 0.0.0.0 or ::", _read_host)
FOLDER: Final = Kind("FOLDER", "the path of a folder", _read_path)
FILE: Final = Kind("FILE", "the path of a file", _read_path)
SWITCH: Final = Kind("on|off", "on or off", _read_switch)
DATABASE: Final = Kind(
    "URL",
    "sqlite:///relative/file, sqlite:////absolute/file or postgresql://user:password@host/database",
    _read_database_url,
)
REDIS: Final = Kind("URL", "redis://host:port/number, rediss://… or unix:///socket", _read_redis_url)
MEDIA: Final = Kind(
    "URL", "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without keys in it", _read_media_url
)
HTTPS: Final = Kind("URL", "an https:// address (http:// only for this machine itself)", _read_https_url)
CONTACT: Final = Kind("URL", "a mailto: or https:// address", _read_contact)
NETWORKS: Final = Kind("LIST", "IP addresses and networks with commas between, such as 10.0.0.0/8, ::1", _read_networks)
ORIGINS: Final = Kind(
    "LIST",
    "origins with commas between, such as https://chat.example.org, app://place or null (no path)",
    _read_origins,
)
ALGORITHMS: Final = Kind("LIST", f"some of {', '.join(ASYMMETRIC)} with commas between", _read_algorithms)
