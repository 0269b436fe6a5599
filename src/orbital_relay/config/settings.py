"""
Every setting with its unit, default and reason.

`Settings` is the one table: the class' fields say the type and the default, the `Option` beside each says the rest.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, get_type_hints

import msgspec

from orbital_relay.api.about import SignupPolicy
from orbital_relay.config import kinds
from orbital_relay.config.database import Database, Postgres, SqliteFile
from orbital_relay.model import MediaLimits


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
    kind: kinds.Kind
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
    def file_env(self) -> str:
        """The variable that names a file with the value; only a secret has one."""
        return f"{self.env}_FILE"

    @property
    def help(self) -> str:
        """One line for `--help`."""
        return f"{self.about} [env: {self.env}; default: {self.default}]"


_PLACE: Final = "Where things are"
_PEOPLE: Final = "People"
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
            kinds.HOST,
            "Address to listen on.",
            "Only this machine can reach it until somebody decides otherwise.",
            _PLACE,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(
            "PORT",
            kinds.whole(0, 65535),
            "Port to listen on, for HTTP and WebSocket alike; 0 lets the system choose a free one.",
            "The port that the published clients dial in development.",
            _PLACE,
        ),
    ] = 3000
    uds: Annotated[
        Path | None,
        Option(
            "ORBITAL_UDS",
            kinds.FILE,
            "Path of a Unix socket to listen on instead of a port, for a proxy on this machine; its owner and group "
            "may connect, and `X-Forwarded-For` of what connects there counts.",
            "A port works with every proxy.",
            _PLACE,
            default="none",
        ),
    ] = None
    tls_cert: Annotated[
        Path | None,
        Option(
            "ORBITAL_TLS_CERT",
            kinds.FILE,
            "PEM file of a certificate with its chain: the server speaks HTTPS with it, and reads it again on SIGHUP.",
            "A proxy in front usually has the certificate, and renews it by itself.",
            _PLACE,
            default="none: plain HTTP",
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        Option(
            "ORBITAL_TLS_KEY",
            kinds.FILE,
            "PEM file of the certificate's private key, without a password.",
            "Some tools write both into one file.",
            _PLACE,
            default="the file of the certificate",
        ),
    ] = None
    redirect_port: Annotated[
        int | None,
        Option(
            "ORBITAL_REDIRECT_PORT",
            kinds.whole(0, 65535),
            "Second port, whose plain HTTP requests are redirected to HTTPS; 80 on the internet.",
            "Only a server with a certificate has something to redirect to.",
            _PLACE,
            default="none",
        ),
    ] = None
    data_dir: Annotated[
        Path,
        Option(
            "ORBITAL_DATA_DIR",
            kinds.FOLDER,
            "Folder for the database, the media and the secret that was made; made when it is not there.",
            "Beside the program, so that trying it out leaves nothing elsewhere.",
            _PLACE,
        ),
    ] = Path("./var")
    database_url: Annotated[
        str | None,
        Option(
            "DATABASE_URL",
            kinds.DATABASE,
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
            kinds.REDIS,
            "Redis, when several servers share one PostgreSQL.",
            "A single server has no others to notify.",
            _PLACE,
            default="none",
            secret=True,
        ),
    ] = None

    workers: Annotated[
        int,
        Option(
            "ORBITAL_WORKERS",
            kinds.whole(1, 256),
            "Processes that share the port; more than one need PostgreSQL and Redis.",
            "One process serves tens of thousands of connections.",
            _PLACE,
        ),
    ] = 1

    name: Annotated[
        str,
        Option(
            "ORBITAL_NAME",
            kinds.NAME,
            "Name of the place, which the page and `GET /api/about` show.",
            "A server that nobody named is an Orbital.",
            _PEOPLE,
        ),
    ] = "Orbital"
    public_url: Annotated[
        str | None,
        Option(
            "ORBITAL_PUBLIC_URL",
            kinds.ADDRESS,
            "Address under which browsers reach the server; invitations name it.",
            "Behind a proxy the server cannot know its own address.",
            _PEOPLE,
            default="none",
        ),
    ] = None
    signups: Annotated[
        SignupPolicy | None,
        Option(
            "ORBITAL_SIGNUPS",
            kinds.choice("open", "invited", "closed"),
            "Who may make an account: `open` lets anybody, `invited` asks for a group's invite code or an invitation "
            "of `orbital user invite`, `closed` leaves it to `orbital user add`.",
            "A server that strangers can reach is otherwise storage for all of them. A request that a proxy passed on "
            "counts as one from elsewhere.",
            _PEOPLE,
            default="open for requests of this machine to a loopback address, invited for all others",
        ),
    ] = None

    jwt_secret: Annotated[
        str | None,
        Option(
            "JWT_SECRET",
            kinds.TEXT,
            "Secret that signs and checks tokens (HS256); every server of a cluster needs the same. "
            "A flag can be read by everyone on the machine: give it by the environment.",
            "A built-in default would be a secret that everybody knows.",
            _TOKENS,
            default="made once, kept in the file jwt-secret in the data folder",
            secret=True,
        ),
    ] = None
    jwt_secret_accepted: Annotated[
        str | None,
        Option(
            "JWT_SECRET_ACCEPTED",
            kinds.TEXT,
            "Second secret whose tokens are accepted too, and with which none is signed: the one before or the next "
            "one, while the secret is replaced.",
            "Outside of a replacement there is one secret.",
            _TOKENS,
            default="none",
            secret=True,
        ),
    ] = None
    token_days: Annotated[
        float,
        Option(
            "ORBITAL_TOKEN_DAYS",
            kinds.number(0.0001, 3650, unit="days"),
            "How long a token of a signup or login holds, in days.",
            "A phone that is used once a month stays signed in.",
            _TOKENS,
        ),
    ] = 30
    jwt_public_key_file: Annotated[
        Path | None,
        Option(
            "ORBITAL_JWT_PUBLIC_KEY_FILE",
            kinds.FILE,
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
            kinds.HTTPS,
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
            kinds.ALGORITHMS,
            "Signatures accepted from the outside provider; each only with a key of its own kind.",
            "What providers use today; the key decides which of them can occur at all.",
            _TOKENS,
        ),
    ] = kinds.ASYMMETRIC
    jwt_audience: Annotated[
        str | None,
        Option(
            "ORBITAL_JWT_AUDIENCE",
            kinds.TEXT,
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
            kinds.TEXT,
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
            kinds.choice("home", "strict"),
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
            kinds.whole(1, 1_000_000),
            "Connection attempts a minute.",
            "The protocol's five: the clients' own waiting keeps within it.",
            _LIMITS,
        ),
    ] = 5
    connect_ceiling: Annotated[
        int,
        Option(
            "ORBITAL_CONNECT_CEILING",
            kinds.whole(1, 1_000_000),
            "Connection attempts a minute of one address, of all users together, with the policy `home`.",
            "Twelve devices behind one router may each use up their five.",
            _LIMITS,
        ),
    ] = 60
    login_limit: Annotated[
        int,
        Option(
            "ORBITAL_LOGIN_LIMIT",
            kinds.whole(1, 1_000_000),
            "Logins from one address under one name in 15 minutes, failed or not.",
            "A person who mistypes succeeds in the end; an attacker who guesses gets 960 tries a day.",
            _LIMITS,
        ),
    ] = 10
    login_ceiling: Annotated[
        int,
        Option(
            "ORBITAL_LOGIN_CEILING",
            kinds.whole(1, 1_000_000),
            "Logins from one address in 15 minutes under all names together; at least `ORBITAL_LOGIN_LIMIT` counts.",
            "One person of a household who mistypes ten times keeps nobody else out.",
            _LIMITS,
        ),
    ] = 60
    signup_limit: Annotated[
        int,
        Option(
            "ORBITAL_SIGNUP_LIMIT",
            kinds.whole(1, 1_000_000),
            "Signups from one address in 15 minutes.",
            "A family signs up in one evening; a script does not fill the table.",
            _LIMITS,
        ),
    ] = 10
    join_limit: Annotated[
        int,
        Option(
            "ORBITAL_JOIN_LIMIT",
            kinds.whole(1, 1_000_000),
            "Tries to join a group in 15 minutes, from one address and by one user.",
            "36^8 codes cannot be guessed at that pace: with a thousand live codes one hit takes four thousand years.",
            _LIMITS,
        ),
    ] = 20
    request_limit: Annotated[
        int,
        Option(
            "ORBITAL_REQUEST_LIMIT",
            kinds.whole(1, 100_000_000),
            "Other requests a minute by one user.",
            "Ten a second is more than a person causes, and little for the server.",
            _LIMITS,
        ),
    ] = 600
    frame_rate: Annotated[
        float,
        Option(
            "ORBITAL_FRAME_RATE",
            kinds.number(0.1, 1_000_000, unit="frames a second"),
            "Frames a second from one connection; twice that may come at once.",
            "The protocol's fifty.",
            _LIMITS,
        ),
    ] = 50
    user_groups: Annotated[
        int,
        Option(
            "ORBITAL_USER_GROUPS",
            kinds.whole(1, 1_000_000),
            "Groups that one user may look after, as who made it or inherited it, and is in.",
            "Each group has room for media: without a bound one account could have all of the disk.",
            _LIMITS,
        ),
    ] = 100
    group_members: Annotated[
        int,
        Option(
            "ORBITAL_GROUP_MEMBERS",
            kinds.whole(1, 1_000_000),
            "Members that a group may have; those who are in stay when it is lowered.",
            "Families, clubs and firms are smaller, and every event goes to every member.",
            _LIMITS,
        ),
    ] = 1000
    envelope_bytes: Annotated[
        int,
        Option(
            "ORBITAL_ENVELOPE_BYTES",
            kinds.whole(1, 16 * 1024 * 1024, unit=" of bytes"),
            "Largest encrypted field of an event, in bytes after decoding.",
            "256 KiB holds any text and a thumbnail; larger things are media.",
            _LIMITS,
        ),
    ] = 262_144
    answer_memory_bytes: Annotated[
        int,
        Option(
            "ORBITAL_ANSWER_MEMORY_BYTES",
            kinds.whole(32 * 1024 * 1024, 2**40, unit=" of bytes"),
            "Memory of a process for large answers that are being made or sent; over it the slowest reader is cut.",
            "128 MiB: five pages of 8 MiB are made at a time, and 16 wait for slow clients, in a machine of 512 MiB.",
            _LIMITS,
        ),
    ] = 134_217_728
    trusted_proxies: Annotated[
        tuple[kinds.Network, ...],
        Option(
            "ORBITAL_TRUSTED_PROXIES",
            kinds.NETWORKS,
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
            kinds.ORIGINS,
            "Web origins whose pages may open a connection, beside the server's own page; empty: any.",
            "A browser sends no token of itself, so a foreign page has nothing to ride on. `null`, the origin of "
            "`file://` pages, has to be named like any other.",
            _LIMITS,
            default="any",
        ),
    ] = frozenset()

    heartbeat_s: Annotated[
        float,
        Option(
            "ORBITAL_HEARTBEAT_SECONDS",
            kinds.number(0.05, 3600, unit="seconds"),
            "Seconds between pings; three unanswered end the connection.",
            "Routers forget a silent connection after a minute or more.",
            _SOCKET,
        ),
    ] = 30
    max_lag_s: Annotated[
        float,
        Option(
            "ORBITAL_MAX_LAG_SECONDS",
            kinds.number(0.1, 86_400, unit="seconds"),
            "How long a connection may read slower than its groups speak before it is closed, in seconds.",
            "Five minutes outlast a lift, a tunnel and a sleeping tab.",
            _SOCKET,
        ),
    ] = 300
    deflate: Annotated[
        bool,
        Option(
            "ORBITAL_DEFLATE",
            kinds.SWITCH,
            "Whether permessage-deflate (RFC 7692) is agreed to when a client offers it.",
            "It saves about a quarter of a message with ciphertext inside, and is done once for all who take it.",
            _SOCKET,
        ),
    ] = True
    drain_s: Annotated[
        float,
        Option(
            "ORBITAL_DRAIN_SECONDS",
            kinds.number(0, 3600, unit="seconds"),
            "Longest wait for requests under way when the server is asked to stop, in seconds.",
            "Within what systemd, Docker with `stop_grace_period` and Kubernetes allow.",
            _SOCKET,
        ),
    ] = 10
    close_pace: Annotated[
        int,
        Option(
            "ORBITAL_CLOSE_PACE",
            kinds.whole(0, 1_000_000),
            "Connections closed a second while the server stops; 0 closes all at once.",
            "The clients' own random waiting spreads their return already.",
            _SOCKET,
        ),
    ] = 0

    retention_days: Annotated[
        float,
        Option(
            "ORBITAL_RETENTION_DAYS",
            kinds.number(0.000001, 36_500, unit="days"),
            "How long events are kept, in days.",
            "The protocol's week: a phone that was off for a holiday catches up.",
            _KEEP,
        ),
    ] = 7
    prune_s: Annotated[
        float,
        Option(
            "ORBITAL_PRUNE_SECONDS",
            kinds.number(0.05, 86_400, unit="seconds"),
            "Seconds between looks for events whose time is over.",
            "Small bites: what fell due within a minute goes in a few milliseconds.",
            _KEEP,
        ),
    ] = 60
    clock_hold_hours: Annotated[
        float,
        Option(
            "ORBITAL_CLOCK_HOLD_HOURS",
            kinds.number(0, 8760, unit="hours"),
            "Hours that a wall clock which is implausibly ahead has to run evenly before it is believed.",
            "A clock that is wrong for minutes or hours deletes nothing. 0 believes any clock at once; "
            "`orbital clock --accept` believes it once.",
            _KEEP,
        ),
    ] = 24
    invite_days: Annotated[
        float,
        Option(
            "ORBITAL_INVITE_DAYS",
            kinds.number(0.0001, 3650, unit="days"),
            "How long an invite code opens its group, in days.",
            "Long enough for a letter, short enough for a forgotten note.",
            _KEEP,
        ),
    ] = 30

    media_url: Annotated[
        str | None,
        Option(
            "ORBITAL_MEDIA_URL",
            kinds.MEDIA,
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
            kinds.number(0.000001, 36_500, unit="days"),
            "How long a medium is kept once it is whole, in days.",
            "The protocol's week: the server relays, the members' devices keep.",
            _MEDIA_ROOM,
        ),
    ] = 7
    media_abandon_hours: Annotated[
        float,
        Option(
            "ORBITAL_MEDIA_ABANDON_HOURS",
            kinds.number(0.0001, 8760, unit="hours"),
            "How long an upload may rest before it is aborted, in hours.",
            "A phone that lost its network in the evening goes on in the morning.",
            _MEDIA_ROOM,
        ),
    ] = 24
    media_chunk_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_CHUNK_BYTES",
            kinds.whole(1, 1024 * 1024 * 1024, unit=" of bytes"),
            "Most bytes of one chunk.",
            "The protocol's 5 MiB: what is lost when a line breaks is sent again in seconds.",
            _MEDIA_ROOM,
        ),
    ] = 5 * 1024 * 1024
    media_file_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_FILE_BYTES",
            kinds.whole(1, 1 << 50, unit=" of bytes"),
            "Most bytes of one medium.",
            "The protocol's 500 MiB: some minutes of video in full quality.",
            _MEDIA_ROOM,
        ),
    ] = 500 * 1024 * 1024
    media_group_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_GROUP_BYTES",
            kinds.whole(1, 1 << 50, unit=" of bytes"),
            "Most bytes of all media of a group, uploads under way counted.",
            "The protocol's 10 GiB.",
            _MEDIA_ROOM,
        ),
    ] = 10 * 1024 * 1024 * 1024
    media_group_files: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_GROUP_FILES",
            kinds.whole(1, 1_000_000),
            "Most media of a group, uploads under way counted.",
            "The protocol's hundred.",
            _MEDIA_ROOM,
        ),
    ] = 100
    media_total_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_TOTAL_BYTES",
            kinds.whole(0, 10**18 - 1, unit=" of bytes"),
            "Most bytes of all media of all groups, uploads under way counted; 0 sets no bound.",
            "A disk has its own bound, which the reserve below keeps; a bucket has none.",
            _MEDIA_ROOM,
        ),
    ] = 0
    disk_reserve_bytes: Annotated[
        int,
        Option(
            "ORBITAL_DISK_RESERVE_BYTES",
            kinds.whole(0, 1 << 50, unit=" of bytes"),
            "Free bytes on the data folder's disk below which media are refused with 507; messages are still stored.",
            "256 MiB hold hundreds of thousands of messages: media never fill the disk that messages need.",
            _MEDIA_ROOM,
        ),
    ] = 256 * 1024 * 1024
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option(
            "ORBITAL_LOG_LEVEL",
            kinds.choice("debug", "info", "warning", "error"),
            "Least serious kind of line that is written.",
            "`info` has one line for each start, stop, opened and closed connection.",
            _LOGS,
        ),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"] | None,
        Option(
            "ORBITAL_LOG_FORMAT",
            kinds.choice("text", "json"),
            "Lines for people or for programs.",
            "A terminal is read by a person.",
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
    def local(self) -> bool:
        """Whether only this machine can reach the server: it listens on loopback, and no proxy is in front."""
        if self.trusted_proxies or self.uds is not None:
            return False
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def signup_policy(self, *, forwarded: bool) -> SignupPolicy:
        """
        Return who may make an account.

        Args:
            forwarded: Whether a proxy passed the request on: then it may come from anywhere.
        """
        if self.signups is not None:
            return self.signups
        return "open" if self.local and not forwarded else "invited"

    @property
    def media_limits(self) -> MediaLimits:
        """How much room media have."""
        return MediaLimits(
            chunk_bytes=self.media_chunk_bytes,
            file_bytes=self.media_file_bytes,
            group_bytes=self.media_group_bytes,
            group_files=self.media_group_files,
            total_bytes=self.media_total_bytes or None,
        )

    @property
    def database(self) -> Database:
        """The database, parsed."""
        if self.database_url is None:
            return SqliteFile(self.data_dir / "orbital.db")
        if self.database_url.startswith("sqlite:///"):
            return SqliteFile(Path(self.database_url.removeprefix("sqlite:///")))
        return Postgres(self.database_url)


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
    """Return those settings, in the order of the table; an unknown name is a bug of ours."""
    chosen = tuple(option for option in OPTIONS if option.field in fields)
    if len(chosen) != len(set(fields)):
        raise AssertionError(f"no such setting among {fields}")
    return chosen
