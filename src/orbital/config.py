"""
Every setting with its unit, default and reason; the only reader of environment, files and flags.

`Settings` is the one table: the class' fields say the type and the default, the `Option` beside each says the rest. The
command line makes its flags from `OPTIONS`, and docs/reference/settings.md is what `reference()` writes.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_type_hints
from urllib.parse import urlsplit

import msgspec

from orbital.errors import SettingsInvalid
from orbital.model import MediaLimits

Network: TypeAlias = IPv4Network | IPv6Network

# Chapter: how a value is read


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


def _whole(low: int, high: int, *, unit: str = "") -> Kind:
    """Read a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(text)
        number = int(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return Kind("NUMBER", f"a whole number{unit} from {low} to {high}", read)


def _number(low: float, high: float, *, unit: str) -> Kind:
    """Read a number, with a fraction if need be, within bounds."""

    def read(text: str) -> float:
        number = float(text)
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(text)
        return number

    return Kind("NUMBER", f"a number of {unit} from {low:g} to {high:g}; a fraction is allowed", read)


def _choice(*words: str) -> Kind:
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
    _ = parts.port  # raises ValueError when it is no number
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


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _read_networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(word, strict=False) for word in _words(text))


def _read_origins(text: str) -> frozenset[str]:
    origins = []
    for word in _words(text.lower()):
        parts = urlsplit(word)
        _ = parts.port
        # RFC 6454 §6.1: an origin is scheme, host and port, and nothing after.
        if not parts.scheme or not parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(text)
        if "*" in word or "@" in parts.netloc:
            raise ValueError(text)
        # A browser leaves the scheme's own port out, so it never matches one that is written.
        default_port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        origins.append(f"{parts.scheme}://{parts.netloc.removesuffix(default_port)}")
    return frozenset(origins)


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


_TEXT: Final = Kind("TEXT", "not empty", _read_text)
_HOST: Final = Kind("ADDRESS", "a host name or an IP address, such as 127.0.0.1, 0.0.0.0 or ::", _read_host)
_FOLDER: Final = Kind("FOLDER", "the path of a folder", _read_path)
_FILE: Final = Kind("FILE", "the path of a file", _read_path)
_SWITCH: Final = Kind("on|off", "on or off", _read_switch)
_DATABASE: Final = Kind(
    "URL",
    "sqlite:///relative/file, sqlite:////absolute/file or postgresql://user:password@host/database",
    _read_database_url,
)
_REDIS: Final = Kind("URL", "redis://host:port/number, rediss://… or unix:///socket", _read_redis_url)
_MEDIA: Final = Kind(
    "URL", "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without keys in it", _read_media_url
)
_HTTPS: Final = Kind("URL", "an https:// address (http:// only for this machine itself)", _read_https_url)
_NETWORKS: Final = Kind(
    "LIST", "IP addresses and networks with commas between, such as 10.0.0.0/8, ::1", _read_networks
)
_ORIGINS: Final = Kind(
    "LIST", "origins with commas between, such as https://chat.example.org (no path, no *)", _read_origins
)
_ALGORITHMS: Final = Kind("LIST", f"some of {', '.join(ASYMMETRIC)} with commas between", _read_algorithms)

# Chapter: the table


class Option(msgspec.Struct, frozen=True):
    """
    What is known of a setting besides its type and default.

    Attributes:
        env: The environment variable.
        kind: How its text is read.
        about: What it does.
        why: Why the default is what it is.
        chapter: Where it stands in the reference.
        default: The default in words, where the value alone does not say it.
        secret: Whether the value must never be shown.
        field: Name of the field of `Settings`; the table fills it in.
    """

    env: str
    kind: Kind
    about: str
    why: str
    chapter: str
    default: str = ""
    secret: bool = False
    field: str = ""

    @property
    def flag(self) -> str:
        """The flag of the command line."""
        return "--" + self.env.removeprefix("ORBITAL_").lower().replace("_", "-")

    @property
    def help(self) -> str:
        """One line for `--help`."""
        return f"{self.about} [env: {self.env}; default: {self.default}]"


_PLACE: Final = "Where things are"
_TOKENS: Final = "Tokens"
_LIMITS: Final = "Limits"
_SOCKET: Final = "Connections"
_MEDIA_ROOM: Final = "Media"
_KEEP: Final = "How long things are kept"
_LOGS: Final = "Logs"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    Every setting of a server, read and checked.

    A setting that was given badly never gets in: `load` raises. The text of a `Settings` shows no secret.
    """

    host: Annotated[
        str,
        Option(
            "ORBITAL_HOST",
            _HOST,
            "Address to listen on.",
            "Only this machine can reach it until somebody decides otherwise.",
            _PLACE,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(
            "PORT",
            _whole(0, 65535),
            "Port to listen on, for HTTP and WebSocket alike; 0 lets the system choose a free one.",
            "The port that the published clients dial in development.",
            _PLACE,
        ),
    ] = 3000
    data_dir: Annotated[
        Path,
        Option(
            "ORBITAL_DATA_DIR",
            _FOLDER,
            "Folder for the database, the media and the secret that was made; made when it is not there.",
            "Beside the program, so that trying it out leaves nothing elsewhere.",
            _PLACE,
        ),
    ] = Path("./var")
    database_url: Annotated[
        str | None,
        Option(
            "DATABASE_URL",
            _DATABASE,
            "The database.",
            "SQLite needs no second program, and serves a household for years.",
            _PLACE,
            default="sqlite, the file orbital.db in the data folder",
            secret=True,
        ),
    ] = None
    redis_url: Annotated[
        str | None,
        Option(
            "REDIS_URL",
            _REDIS,
            "Redis, when several servers share one PostgreSQL.",
            "One server alone has nobody to tell.",
            _PLACE,
            default="none",
            secret=True,
        ),
    ] = None

    workers: Annotated[
        int,
        Option(
            "ORBITAL_WORKERS",
            _whole(1, 256),
            "Processes that share the port; more than one need PostgreSQL and Redis.",
            "One process serves tens of thousands of connections.",
            _PLACE,
        ),
    ] = 1

    jwt_secret: Annotated[
        str | None,
        Option(
            "JWT_SECRET",
            _TEXT,
            "Secret that signs and checks tokens (HS256); every server of a cluster needs the same. "
            "A flag can be read by everyone on the machine: give it by the environment.",
            "A built-in default would be a secret that everybody knows.",
            _TOKENS,
            default="made once, kept in the file jwt-secret in the data folder",
            secret=True,
        ),
    ] = None
    token_days: Annotated[
        float,
        Option(
            "ORBITAL_TOKEN_DAYS",
            _number(0.0001, 3650, unit="days"),
            "How long a token of a signup or login holds, in days.",
            "A phone that is used once a month stays signed in.",
            _TOKENS,
        ),
    ] = 30
    jwt_public_key_file: Annotated[
        Path | None,
        Option(
            "ORBITAL_JWT_PUBLIC_KEY_FILE",
            _FILE,
            "PEM file with the public key of an outside identity provider, whose tokens are accepted too.",
            "Without an outside provider there is no such key.",
            _TOKENS,
            default="none",
        ),
    ] = None
    jwt_jwks_url: Annotated[
        str | None,
        Option(
            "ORBITAL_JWT_JWKS_URL",
            _HTTPS,
            "Address of the public keys (a JWK set, RFC 7517) of an outside identity provider, "
            "whose tokens are accepted too.",
            "Without an outside provider there is no such address.",
            _TOKENS,
            default="none",
        ),
    ] = None
    jwt_algorithms: Annotated[
        tuple[str, ...],
        Option(
            "ORBITAL_JWT_ALGORITHMS",
            _ALGORITHMS,
            "Signatures accepted from the outside provider; each only with a key of its own kind.",
            "What providers use today; the key decides which of them can occur at all.",
            _TOKENS,
        ),
    ] = ASYMMETRIC
    jwt_audience: Annotated[
        str | None,
        Option(
            "ORBITAL_JWT_AUDIENCE",
            _TEXT,
            "What `aud` of the outside provider's tokens must name.",
            "Set it whenever the provider serves other applications too: their tokens are as well signed as yours.",
            _TOKENS,
            default="not checked",
        ),
    ] = None
    jwt_issuer: Annotated[
        str | None,
        Option(
            "ORBITAL_JWT_ISSUER",
            _TEXT,
            "What `iss` of the outside provider's tokens must be.",
            "The key alone says who signed; this says for which tenant.",
            _TOKENS,
            default="not checked",
        ),
    ] = None

    connect_policy: Annotated[
        Literal["home", "strict"],
        Option(
            "ORBITAL_CONNECT_POLICY",
            _choice("home", "strict"),
            "What counts as one of the connection attempts: `home` counts by address and user when the token holds, "
            "by address when it does not; `strict` counts every attempt of the address.",
            "A household shares one address and comes back together after a power cut.",
            _LIMITS,
        ),
    ] = "home"
    connect_limit: Annotated[
        int,
        Option(
            "ORBITAL_CONNECT_LIMIT",
            _whole(1, 1_000_000),
            "Connection attempts a minute.",
            "The protocol's five: the clients' own waiting keeps within it.",
            _LIMITS,
        ),
    ] = 5
    connect_ceiling: Annotated[
        int,
        Option(
            "ORBITAL_CONNECT_CEILING",
            _whole(1, 1_000_000),
            "Connection attempts a minute of one address, whoever they are of, with the policy `home`.",
            "Twelve devices behind one router may each use up their five.",
            _LIMITS,
        ),
    ] = 60
    login_limit: Annotated[
        int,
        Option(
            "ORBITAL_LOGIN_LIMIT",
            _whole(1, 1_000_000),
            "Logins from one address in 15 minutes, failed or not.",
            "A person who mistypes gets through; somebody who guesses gets 960 tries a day.",
            _LIMITS,
        ),
    ] = 10
    signup_limit: Annotated[
        int,
        Option(
            "ORBITAL_SIGNUP_LIMIT",
            _whole(1, 1_000_000),
            "Signups from one address in 15 minutes.",
            "A family signs up in one evening; a script does not fill the table.",
            _LIMITS,
        ),
    ] = 10
    join_limit: Annotated[
        int,
        Option(
            "ORBITAL_JOIN_LIMIT",
            _whole(1, 1_000_000),
            "Tries to join a group in 15 minutes, from one address and by one user.",
            "36^8 codes cannot be guessed at that pace: with a thousand live codes one hit takes four thousand years.",
            _LIMITS,
        ),
    ] = 20
    request_limit: Annotated[
        int,
        Option(
            "ORBITAL_REQUEST_LIMIT",
            _whole(1, 100_000_000),
            "Other requests a minute by one user.",
            "Ten a second is more than a person causes, and little for the server.",
            _LIMITS,
        ),
    ] = 600
    frame_rate: Annotated[
        float,
        Option(
            "ORBITAL_FRAME_RATE",
            _number(0.1, 1_000_000, unit="frames a second"),
            "Frames a second from one connection; twice that may come at once.",
            "The protocol's fifty.",
            _LIMITS,
        ),
    ] = 50
    envelope_bytes: Annotated[
        int,
        Option(
            "ORBITAL_ENVELOPE_BYTES",
            _whole(1, 16 * 1024 * 1024, unit=" of bytes"),
            "Largest encrypted field of an event, in bytes after decoding.",
            "256 KiB holds any text and a thumbnail; larger things are media.",
            _LIMITS,
        ),
    ] = 262_144
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Option(
            "ORBITAL_TRUSTED_PROXIES",
            _NETWORKS,
            "Addresses and networks of the proxies whose `X-Forwarded-For` counts.",
            "Anybody can write that header; only your own proxy's word counts.",
            _LIMITS,
            default="none",
        ),
    ] = ()
    allowed_origins: Annotated[
        frozenset[str],
        Option(
            "ORBITAL_ALLOWED_ORIGINS",
            _ORIGINS,
            "Web origins whose pages may open a connection; empty: any.",
            "A browser sends no token of itself, so a foreign page has nothing to ride on.",
            _LIMITS,
            default="any",
        ),
    ] = frozenset()

    heartbeat_s: Annotated[
        float,
        Option(
            "ORBITAL_HEARTBEAT_SECONDS",
            _number(0.05, 3600, unit="seconds"),
            "Seconds between pings; three unanswered end the connection.",
            "Routers forget a silent connection after a minute or more.",
            _SOCKET,
        ),
    ] = 30
    max_lag_s: Annotated[
        float,
        Option(
            "ORBITAL_MAX_LAG_SECONDS",
            _number(0.1, 86_400, unit="seconds"),
            "How long a connection may read slower than its groups speak before it is closed, in seconds.",
            "Five minutes outlast a lift, a tunnel and a sleeping tab.",
            _SOCKET,
        ),
    ] = 300
    deflate: Annotated[
        bool,
        Option(
            "ORBITAL_DEFLATE",
            _SWITCH,
            "Whether permessage-deflate (RFC 7692) is agreed to when a client offers it.",
            "It saves about a fifth of what is sent, and is done once for all who take it.",
            _SOCKET,
        ),
    ] = True
    drain_s: Annotated[
        float,
        Option(
            "ORBITAL_DRAIN_SECONDS",
            _number(0, 3600, unit="seconds"),
            "Longest wait for what is under way when the server is told to stop, in seconds.",
            "Within what systemd, Docker with `stop_grace_period` and Kubernetes allow.",
            _SOCKET,
        ),
    ] = 10
    close_pace: Annotated[
        int,
        Option(
            "ORBITAL_CLOSE_PACE",
            _whole(0, 1_000_000),
            "Connections closed a second while the server stops; 0 closes all at once.",
            "The clients' own random waiting spreads their return already.",
            _SOCKET,
        ),
    ] = 0

    retention_days: Annotated[
        float,
        Option(
            "ORBITAL_RETENTION_DAYS",
            _number(0.000001, 36_500, unit="days"),
            "How long events are kept, in days.",
            "The protocol's week: a phone that was off for a holiday catches up.",
            _KEEP,
        ),
    ] = 7
    prune_s: Annotated[
        float,
        Option(
            "ORBITAL_PRUNE_SECONDS",
            _number(0.05, 86_400, unit="seconds"),
            "Seconds between looks for events whose time is over.",
            "Small bites: what fell due within a minute goes in a few milliseconds.",
            _KEEP,
        ),
    ] = 60
    invite_days: Annotated[
        float,
        Option(
            "ORBITAL_INVITE_DAYS",
            _number(0.0001, 3650, unit="days"),
            "How long an invite code opens its group, in days.",
            "Long enough for a letter, short enough for a forgotten note.",
            _KEEP,
        ),
    ] = 30

    media_url: Annotated[
        str | None,
        Option(
            "ORBITAL_MEDIA_URL",
            _MEDIA,
            "Bucket for the media. Its keys, region and endpoint are read from the store's own variables, such as "
            "`AWS_ACCESS_KEY_ID`, `AWS_REGION` and `AWS_ENDPOINT_URL`.",
            "A folder needs no second program; several servers need a place that all of them see.",
            _MEDIA_ROOM,
            default="the folder media in the data folder",
        ),
    ] = None
    media_days: Annotated[
        float,
        Option(
            "ORBITAL_MEDIA_DAYS",
            _number(0.000001, 36_500, unit="days"),
            "How long a medium is kept once it is whole, in days.",
            "The protocol's week: the server relays, the members' devices keep.",
            _MEDIA_ROOM,
        ),
    ] = 7
    media_abandon_hours: Annotated[
        float,
        Option(
            "ORBITAL_MEDIA_ABANDON_HOURS",
            _number(0.0001, 8760, unit="hours"),
            "How long an upload may rest before it is given up, in hours.",
            "A phone that lost its network in the evening goes on in the morning.",
            _MEDIA_ROOM,
        ),
    ] = 24
    media_chunk_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_CHUNK_BYTES",
            _whole(1, 1024 * 1024 * 1024, unit=" of bytes"),
            "Most bytes of one chunk.",
            "The protocol's 5 MiB: what is lost when a line breaks is sent again in seconds.",
            _MEDIA_ROOM,
        ),
    ] = 5 * 1024 * 1024
    media_file_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_FILE_BYTES",
            _whole(1, 1 << 50, unit=" of bytes"),
            "Most bytes of one medium.",
            "The protocol's 500 MiB: some minutes of video in full quality.",
            _MEDIA_ROOM,
        ),
    ] = 500 * 1024 * 1024
    media_group_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_GROUP_BYTES",
            _whole(1, 1 << 50, unit=" of bytes"),
            "Most bytes of all media of a group, uploads under way counted.",
            "The protocol's 10 GiB.",
            _MEDIA_ROOM,
        ),
    ] = 10 * 1024 * 1024 * 1024
    media_group_files: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_GROUP_FILES",
            _whole(1, 1_000_000),
            "Most media of a group, uploads under way counted.",
            "The protocol's hundred.",
            _MEDIA_ROOM,
        ),
    ] = 100
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option(
            "ORBITAL_LOG_LEVEL",
            _choice("debug", "info", "warning", "error"),
            "Least serious kind of line that is written.",
            "`info` has one line for each start, stop, opened and closed connection.",
            _LOGS,
        ),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"] | None,
        Option(
            "ORBITAL_LOG_FORMAT",
            _choice("text", "json"),
            "Lines for people or for programs.",
            "Whoever looks at a terminal is a person.",
            _LOGS,
            default="text on a terminal, json elsewhere",
        ),
    ] = None

    def __repr__(self) -> str:
        """Show every setting, secrets as `***`."""
        parts = []
        for option in OPTIONS:
            value = getattr(self, option.field)
            parts.append(f"{option.field}={'***' if option.secret and value is not None else repr(value)}")
        return f"Settings({', '.join(parts)})"

    @property
    def media_limits(self) -> MediaLimits:
        """How much room media have."""
        return MediaLimits(
            chunk_bytes=self.media_chunk_bytes,
            file_bytes=self.media_file_bytes,
            group_bytes=self.media_group_bytes,
            group_files=self.media_group_files,
        )

    @property
    def database(self) -> Database:
        """The database, taken apart."""
        if self.database_url is None:
            return SqliteFile(self.data_dir / "orbital.db")
        if self.database_url.startswith("sqlite:///"):
            return SqliteFile(Path(self.database_url.removeprefix("sqlite:///")))
        return Postgres(self.database_url)


class SqliteFile(msgspec.Struct, frozen=True, tag=True):
    """
    A database in a file.

    Attributes:
        path: The file; relative to the working folder unless absolute.
    """

    path: Path

    @property
    def shown(self) -> str:
        """The database in words that may stand in a log."""
        return f"sqlite:///{self.path}"


class Postgres(msgspec.Struct, frozen=True, tag=True):
    """
    A PostgreSQL server.

    Attributes:
        dsn: `postgresql://…`, perhaps with a password.
    """

    dsn: str

    @property
    def shown(self) -> str:
        """The database in words that may stand in a log: without user, password and parameters."""
        return without_credentials(self.dsn)

    def __repr__(self) -> str:
        """Show where it is, not the password."""
        return f"Postgres({self.shown!r})"


Database: TypeAlias = SqliteFile | Postgres


def without_credentials(url: str) -> str:
    """Return an address without user, password and parameters, fit for a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _table() -> tuple[Option, ...]:
    options = []
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        (option,) = hint.__metadata__
        default = option.default or _shown(defaults[name])
        options.append(msgspec.structs.replace(option, field=name, default=default))
    return tuple(options)


def _shown(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case tuple():
            return ",".join(map(str, value))
        case Path():
            return f"./{value}"
        case _:
            return str(value)


OPTIONS: Final = _table()
"""Every setting, in the order of the reference."""


def options(*fields: str) -> tuple[Option, ...]:
    """Return those settings, in the order of the table; a name that is none is a bug of ours."""
    chosen = tuple(option for option in OPTIONS if option.field in fields)
    if len(chosen) != len(set(fields)):
        raise AssertionError(f"no such setting among {fields}")
    return chosen


# Chapter: reading


def load(flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """
    Read all settings: a flag goes before the environment, the environment before the default.

    An empty variable counts as not set, so that `PORT=` in a compose file harms nobody; an empty JWT_SECRET alone is
    refused, since whoever wrote it meant to give one.

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
    known = [option.env for option in OPTIONS]
    for name in sorted(environ):
        if name in known or not name.startswith("ORBITAL_"):
            continue
        # 0.9 catches a letter too many or too few, and leaves ORBITAL_TOKEN to the tools that use it.
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        if close:
            sentences.append(f"{name} is not a setting and does nothing; did you mean {close[0]}?")
    return sentences


# Chapter: files


def make_data_dir(settings: Settings) -> Path:
    """
    Make the data folder, open to its owner alone, unless it is there.

    Raises:
        SettingsInvalid: If it cannot be made, or something else has its name.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsInvalid(f"The data folder {folder} cannot be made: {exc.strerror}.") from exc
    return folder


def read_jwt_secret(settings: Settings) -> bytes:
    """
    Return the tokens' secret: the one that was given, else the one kept in the data folder, made on first use.

    Two servers that start at once in one folder end with the same secret.

    Raises:
        SettingsInvalid: If the file can be neither read nor made, is empty, or could be read by others.
    """
    if settings.jwt_secret is not None:
        return settings.jwt_secret.encode("utf-8", "surrogateescape")
    path = make_data_dir(settings) / "jwt-secret"
    try:
        if not path.exists():
            _make_secret(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SettingsInvalid(
                f"{path} can be read by others, so the tokens' secret may be known; "
                f"make it yours alone (chmod 600 {path}), or delete it and all users sign in again."
            )
        secret = path.read_bytes().strip()
    except OSError as exc:
        raise SettingsInvalid(f"The tokens' secret {path} cannot be used: {exc.strerror}.") from exc
    if len(secret) < 32:
        raise SettingsInvalid(f"{path} holds no secret of ours; delete it, and a new one is made.")
    return secret


def _make_secret(path: Path) -> None:
    """Write a new secret so that the file is never there without it, and never readable by others."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL with a mode: no moment in which the file exists and others may read it.
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # link() fails where the name exists: of two servers that start at once, one secret stays.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put the folder's entries on the disk: a secret lost with the power would sign everybody out."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_jwt_public_key(settings: Settings) -> bytes | None:
    """
    Return the PEM text of the outside provider's key, or None when none is configured.

    Raises:
        SettingsInvalid: If the file cannot be read, or holds a private key.
    """
    path = settings.jwt_public_key_file
    if path is None:
        return None
    try:
        pem = path.read_bytes()
    except OSError as exc:
        raise SettingsInvalid(f"ORBITAL_JWT_PUBLIC_KEY_FILE, {path}, cannot be read: {exc.strerror}.") from exc
    if b"PRIVATE KEY" in pem:
        raise SettingsInvalid(
            f"ORBITAL_JWT_PUBLIC_KEY_FILE, {path}, holds a private key; this server needs the public one alone."
        )
    return pem


# Chapter: the reference


def reference() -> str:
    """Write docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "<!-- Made by `python -m orbital.config > docs/reference/settings.md` from src/orbital/config.py. -->",
        "",
        "Each setting is a flag of `orbital serve` and an environment variable.",
        "A flag goes before the environment, the environment before the default.",
        "An empty variable counts as not set; an empty `JWT_SECRET` is refused.",
        "A value that is not allowed stops the server before it listens, with a sentence that says what would do.",
    ]
    chapters: dict[str, list[Option]] = {}
    for option in OPTIONS:
        chapters.setdefault(option.chapter, []).append(option)
    for chapter, rows in chapters.items():
        lines += ["", f"## {chapter}", ""]
        lines += _reference_rows(rows)
    return "\n".join(lines) + "\n"


def _reference_rows(rows: Iterable[Option]) -> list[str]:
    lines = ["| variable, flag | what it does | allowed | default | why |", "| --- | --- | --- | --- | --- |"]
    for option in rows:
        cells = (
            f"`{option.env}` `{option.flag}`",
            option.about,
            option.kind.allowed,
            option.default,
            option.why,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


if __name__ == "__main__":
    sys.stdout.write(reference())
