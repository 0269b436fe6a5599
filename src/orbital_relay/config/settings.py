"""
Every setting and limit (environment variable) with its unit, default and reason.

`Settings` is the only table: a field has the type and the default, and its `Option` the rest.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, get_type_hints

import msgspec

from orbital_relay.api.about import SignupPolicy
from orbital_relay.config import kinds
from orbital_relay.config.database import DatabaseAddress, Postgres, SqliteFile
from orbital_relay.model import MediaLimits


class Option(msgspec.Struct, frozen=True):
    """
    The description of a setting, besides its type and default.

    Attributes:
        env: The environment variable.
        kind: How its text is parsed.
        about: What it does.
        why: Why the default is what it is.
        chapter: Its section in the reference.
        default: The default in words, if the value alone does not explain it.
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


_PLACE: Final = "Addresses and folders"
_PEOPLE: Final = "Accounts"
_TOKENS: Final = "Tokens"
_LIMITS: Final = "Limits"
_SOCKET: Final = "Connections"
_MEDIA_ROOM: Final = "Media"
_KEEP: Final = "Retention"
_PUSH: Final = "Push messages"
_LOGS: Final = "Logs"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    Every setting of a server, read and checked.

    A setting with an invalid value is never in it: `load` raises. The `repr` of a `Settings` contains no secret.
    """

    host: Annotated[
        str,
        Option(
            "ORBITAL_HOST",
            kinds.HOST,
            "Address to listen on.",
            "By default only this machine can reach it.",
            _PLACE,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(
            "PORT",
            kinds.whole(0, 65535),
            "Port to listen on, for both HTTP and WebSocket; with 0 the system chooses a free one.",
            "The port that the published clients use in development.",
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
            "A proxy in front usually has the certificate, and renews it automatically.",
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
            "Folder for the database, the media and the generated secret; created if it is missing.",
            "Below the working directory, so that a trial leaves no files elsewhere.",
            _PLACE,
        ),
    ] = Path("./var")
    database_url: Annotated[
        str | None,
        Option(
            "DATABASE_URL",
            kinds.DATABASE,
            "The database.",
            "SQLite needs no other program, and is sufficient for a household for years.",
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
            "Processes that share the port; more than one requires PostgreSQL and Redis.",
            "One process serves tens of thousands of connections.",
            _PLACE,
        ),
    ] = 1

    name: Annotated[
        str,
        Option(
            "ORBITAL_NAME",
            kinds.NAME,
            "Name of the server, which the page and `GET /api/about` show.",
            "The name of the software.",
            _PEOPLE,
        ),
    ] = "Orbital"
    public_url: Annotated[
        str | None,
        Option(
            "ORBITAL_PUBLIC_URL",
            kinds.ADDRESS,
            "Address at which browsers reach the server; invitations contain it.",
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
            "Who may create an account: `open` allows anybody, `invited` requires a group's invite code or an "
            "invitation of `orbital user invite`, `closed` allows only `orbital user add`.",
            "Otherwise any stranger who can reach the server could use its storage. A request that a proxy forwarded "
            "counts as one from another machine.",
            _PEOPLE,
            default="open for requests of this machine to a loopback address, invited for all others",
        ),
    ] = None

    jwt_secret: Annotated[
        str | None,
        Option(
            "JWT_SECRET",
            kinds.TEXT,
            "Secret that signs and verifies tokens (HS256); all servers of a cluster need the same. "
            "Every user of the machine can read a flag: set it by the environment.",
            "A built-in default would be a secret that everybody knows.",
            _TOKENS,
            default="generated once, stored in the file jwt-secret in the data folder",
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
            "How long a token of a signup or login is valid, in days.",
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
            "Signature algorithms accepted from the outside provider; each only with a key of its type.",
            "The algorithms that providers use today; the type of the key determines which of them is possible.",
            _TOKENS,
        ),
    ] = kinds.ASYMMETRIC
    jwt_audience: Annotated[
        str | None,
        Option(
            "ORBITAL_JWT_AUDIENCE",
            kinds.TEXT,
            "Required value in `aud` of the outside provider's tokens.",
            "Set it if the provider also serves other applications: it signs their tokens with the same keys.",
            _TOKENS,
            default="not checked",
        ),
    ] = None
    jwt_issuer: Annotated[
        str | None,
        Option(
            "ORBITAL_JWT_ISSUER",
            kinds.TEXT,
            "Required value of `iss` in the outside provider's tokens.",
            "The key identifies the provider; the issuer also identifies the tenant.",
            _TOKENS,
            default="not checked",
        ),
    ] = None

    connect_policy: Annotated[
        Literal["home", "strict"],
        Option(
            "ORBITAL_CONNECT_POLICY",
            kinds.choice("home", "strict"),
            "How connection attempts are counted: `home` counts by address and user if the token is valid, "
            "and otherwise by address; `strict` counts every attempt of the address.",
            "A household shares one address, and all its devices reconnect together after a power cut.",
            _LIMITS,
        ),
    ] = "home"
    connect_limit: Annotated[
        int,
        Option(
            "ORBITAL_CONNECT_LIMIT",
            kinds.whole(1, 1_000_000),
            "Connection attempts a minute.",
            "The protocol's five: the back-off of the clients stays within it.",
            _LIMITS,
        ),
    ] = 5
    connect_ceiling: Annotated[
        int,
        Option(
            "ORBITAL_CONNECT_CEILING",
            kinds.whole(1, 1_000_000),
            "Connection attempts a minute from one address, by all users together, with the policy `home`.",
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
            "A user who mistypes has enough attempts; an attacker who guesses gets 960 attempts a day.",
            _LIMITS,
        ),
    ] = 10
    login_ceiling: Annotated[
        int,
        Option(
            "ORBITAL_LOGIN_CEILING",
            kinds.whole(1, 1_000_000),
            "Logins from one address in 15 minutes under all names together; at least `ORBITAL_LOGIN_LIMIT`.",
            "A member of a household who mistypes ten times does not lock out the others.",
            _LIMITS,
        ),
    ] = 60
    signup_limit: Annotated[
        int,
        Option(
            "ORBITAL_SIGNUP_LIMIT",
            kinds.whole(1, 1_000_000),
            "Signups from one address in 15 minutes.",
            "A family can sign up in one evening, but a script cannot fill the table.",
            _LIMITS,
        ),
    ] = 10
    join_limit: Annotated[
        int,
        Option(
            "ORBITAL_JOIN_LIMIT",
            kinds.whole(1, 1_000_000),
            "Attempts to join a group in 15 minutes, from one address and by one user.",
            "36^8 codes cannot be guessed at that rate: with a thousand valid codes one hit takes four thousand years.",
            _LIMITS,
        ),
    ] = 20
    request_limit: Annotated[
        int,
        Option(
            "ORBITAL_REQUEST_LIMIT",
            kinds.whole(1, 100_000_000),
            "Other requests a minute by one user.",
            "Ten a second is more than a user causes, and few for the server.",
            _LIMITS,
        ),
    ] = 600
    upload_limit: Annotated[
        int,
        Option(
            "ORBITAL_UPLOAD_LIMIT",
            kinds.whole(1, 1_000_000),
            "Uploads that one user may begin in an hour.",
            "Three times the media that a group may have: an album fits, but a script is stopped.",
            _LIMITS,
        ),
    ] = 300
    user_uploads: Annotated[
        int,
        Option(
            "ORBITAL_USER_UPLOADS",
            kinds.whole(1, 1_000_000),
            "Unfinished uploads of one user, in all groups together; in one group they are ten at most.",
            "A phone sends a few at a time; each one reserves room until it is finished or idle for a day.",
            _LIMITS,
        ),
    ] = 30
    frame_rate: Annotated[
        float,
        Option(
            "ORBITAL_FRAME_RATE",
            kinds.number(0.1, 1_000_000, unit="frames a second"),
            "Frames a second from one connection; a burst may have twice as many.",
            "The protocol's fifty.",
            _LIMITS,
        ),
    ] = 50
    user_groups: Annotated[
        int,
        Option(
            "ORBITAL_USER_GROUPS",
            kinds.whole(1, 1_000_000),
            "Groups of which one user may be the creator, by creation or succession, while a member.",
            "Each group has a quota for media: without a limit one account could fill the disk.",
            _LIMITS,
        ),
    ] = 100
    group_members: Annotated[
        int,
        Option(
            "ORBITAL_GROUP_MEMBERS",
            kinds.whole(1, 1_000_000),
            "Members that a group may have; lowering it removes no member.",
            "Families, clubs and companies are smaller, and every event is delivered to every member.",
            _LIMITS,
        ),
    ] = 1000
    envelope_bytes: Annotated[
        int,
        Option(
            "ORBITAL_ENVELOPE_BYTES",
            kinds.whole(1, 16 * 1024 * 1024, unit=" of bytes"),
            "Largest encrypted field of an event, such as a title or a body, in bytes after decoding.",
            "256 KiB is enough for any text and a thumbnail; larger content is sent as media.",
            _LIMITS,
        ),
    ] = 262_144
    answer_memory_bytes: Annotated[
        int,
        Option(
            "ORBITAL_ANSWER_MEMORY_BYTES",
            kinds.whole(32 * 1024 * 1024, 2**40, unit=" of bytes"),
            "Memory of a process for large responses that are built or sent; above it the slowest one is aborted.",
            "128 MiB: five pages of 8 MiB can be built at a time while 16 wait for slow clients, in 512 MiB.",
            _LIMITS,
        ),
    ] = 134_217_728
    trusted_proxies: Annotated[
        tuple[kinds.Network, ...],
        Option(
            "ORBITAL_TRUSTED_PROXIES",
            kinds.NETWORKS,
            "Addresses and networks of the proxies whose `X-Forwarded-For` is trusted.",
            "Any client can send that header; only your own proxy's value can be trusted.",
            _LIMITS,
            default="none",
        ),
    ] = ()
    allowed_origins: Annotated[
        frozenset[str],
        Option(
            "ORBITAL_ALLOWED_ORIGINS",
            kinds.ORIGINS,
            "Web origins whose pages may open a connection, in addition to the server's own page; empty: any.",
            "A browser does not send the token automatically, so a page of another origin cannot use it. `null`, the "
            "origin of `file://` pages, has to be listed like any other.",
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
            "Routers drop an idle connection after a minute or more.",
            _SOCKET,
        ),
    ] = 30
    max_lag_s: Annotated[
        float,
        Option(
            "ORBITAL_MAX_LAG_SECONDS",
            kinds.number(0.1, 86_400, unit="seconds"),
            "How long a connection may read more slowly than events arrive before it is closed, in seconds.",
            "Five minutes are longer than most interruptions, such as a tunnel or a sleeping tab.",
            _SOCKET,
        ),
    ] = 300
    deflate: Annotated[
        bool,
        Option(
            "ORBITAL_DEFLATE",
            kinds.SWITCH,
            "Whether permessage-deflate (RFC 7692) is accepted when a client offers it.",
            "It saves about a quarter of a message that contains ciphertext, and is done once for all clients.",
            _SOCKET,
        ),
    ] = True
    drain_s: Annotated[
        float,
        Option(
            "ORBITAL_DRAIN_SECONDS",
            kinds.number(0, 3600, unit="seconds"),
            "Longest wait for requests in progress when the server stops, in seconds.",
            "Shorter than the stop timeouts of systemd, Docker (with `stop_grace_period`) and Kubernetes.",
            _SOCKET,
        ),
    ] = 10
    close_pace: Annotated[
        int,
        Option(
            "ORBITAL_CLOSE_PACE",
            kinds.whole(0, 1_000_000),
            "Connections closed a second while the server stops; 0 closes all at once.",
            "The jitter of the clients already spreads their reconnections.",
            _SOCKET,
        ),
    ] = 0

    retention_days: Annotated[
        float,
        Option(
            "ORBITAL_RETENTION_DAYS",
            kinds.number(0.000001, 36_500, unit="days"),
            "How long events are retained, in days.",
            "The protocol's week: a phone that was off for a holiday can catch up.",
            _KEEP,
        ),
    ] = 7
    prune_s: Annotated[
        float,
        Option(
            "ORBITAL_PRUNE_SECONDS",
            kinds.number(0.05, 86_400, unit="seconds"),
            "Seconds between deletions of events whose retention has ended.",
            "Small batches: the events that expire within a minute are deleted in a few milliseconds.",
            _KEEP,
        ),
    ] = 60
    clock_hold_hours: Annotated[
        float,
        Option(
            "ORBITAL_CLOCK_HOLD_HOURS",
            kinds.number(0, 8760, unit="hours"),
            "Hours that a wall clock which is implausibly ahead has to run without a jump before it is trusted.",
            "A clock that is wrong for minutes or hours causes no deletion. With 0 any clock is trusted at once; "
            "`orbital clock --accept` trusts it once.",
            _KEEP,
        ),
    ] = 24
    invite_days: Annotated[
        float,
        Option(
            "ORBITAL_INVITE_DAYS",
            kinds.number(0.0001, 3650, unit="days"),
            "How long an invite code is valid, in days.",
            "Long enough for a letter by post, short enough that a lost note expires.",
            _KEEP,
        ),
    ] = 30

    media_url: Annotated[
        str | None,
        Option(
            "ORBITAL_MEDIA_URL",
            kinds.MEDIA,
            "Bucket for the media. Credentials, region and endpoint are read from the provider's variables, such as "
            "`AWS_ACCESS_KEY_ID`, `AWS_REGION` and `AWS_ENDPOINT_URL`.",
            "A folder needs no other program; several servers need storage that all of them can reach.",
            _MEDIA_ROOM,
            default="the folder media in the data folder",
        ),
    ] = None
    media_days: Annotated[
        float,
        Option(
            "ORBITAL_MEDIA_DAYS",
            kinds.number(0.000001, 36_500, unit="days"),
            "How long a medium is retained once it is complete, in days.",
            "The protocol's week: the server relays media, the members' devices store them.",
            _MEDIA_ROOM,
        ),
    ] = 7
    media_abandon_hours: Annotated[
        float,
        Option(
            "ORBITAL_MEDIA_ABANDON_HOURS",
            kinds.number(0.0001, 8760, unit="hours"),
            "How long an upload may be idle before it is aborted, in hours.",
            "A phone that lost its network in the evening resumes in the morning.",
            _MEDIA_ROOM,
        ),
    ] = 24
    media_chunk_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_CHUNK_BYTES",
            kinds.whole(1, 1024 * 1024 * 1024, unit=" of bytes"),
            "Most bytes of one chunk.",
            "The protocol's 5 MiB: a chunk that was lost with its connection is sent again in seconds.",
            _MEDIA_ROOM,
        ),
    ] = 5 * 1024 * 1024
    media_file_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_FILE_BYTES",
            kinds.whole(1, 1 << 50, unit=" of bytes"),
            "Most bytes of one medium (file, attachment): the maximum upload size.",
            "The protocol's 500 MiB: some minutes of video in full quality.",
            _MEDIA_ROOM,
        ),
    ] = 500 * 1024 * 1024
    media_group_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_GROUP_BYTES",
            kinds.whole(1, 1 << 50, unit=" of bytes"),
            "Most bytes of all media of a group, including uploads in progress.",
            "The protocol's 10 GiB.",
            _MEDIA_ROOM,
        ),
    ] = 10 * 1024 * 1024 * 1024
    media_group_files: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_GROUP_FILES",
            kinds.whole(1, 1_000_000),
            "Most media of a group, including uploads in progress.",
            "The protocol's hundred.",
            _MEDIA_ROOM,
        ),
    ] = 100
    media_total_bytes: Annotated[
        int,
        Option(
            "ORBITAL_MEDIA_TOTAL_BYTES",
            kinds.whole(0, 10**18 - 1, unit=" of bytes"),
            "Most bytes of all media of all groups, including uploads in progress; 0 sets no limit.",
            "On a disk the reserve below limits media; a bucket has no such limit.",
            _MEDIA_ROOM,
        ),
    ] = 0
    disk_reserve_bytes: Annotated[
        int,
        Option(
            "ORBITAL_DISK_RESERVE_BYTES",
            kinds.whole(0, 1 << 50, unit=" of bytes"),
            "Free bytes on the data folder's disk below which media are refused with 507; messages are still stored.",
            "256 MiB are enough for hundreds of thousands of messages: media never fill the disk that these need.",
            _MEDIA_ROOM,
        ),
    ] = 256 * 1024 * 1024
    push: Annotated[
        bool,
        Option(
            "ORBITAL_PUSH",
            kinds.SWITCH,
            "Whether push messages are sent to subscribed devices while their page is closed.",
            "Without it a family notices a message only when somebody opens the page. The server connects to a push "
            "service only for a device that subscribed.",
            _PUSH,
        ),
    ] = True
    push_contact: Annotated[
        str | None,
        Option(
            "ORBITAL_PUSH_CONTACT",
            kinds.CONTACT,
            "Where push services can reach the operator (RFC 8292): a `mailto:` or `https:` address.",
            "Push services want to warn before they block a server.",
            _PUSH,
            default="ORBITAL_PUBLIC_URL where that is https, else mailto:operator@orbital.invalid",
        ),
    ] = None
    push_networks: Annotated[
        tuple[kinds.Network, ...],
        Option(
            "ORBITAL_PUSH_NETWORKS",
            kinds.NETWORKS,
            "Private networks in which push services may be, such as a UnifiedPush server at home; only there http is "
            "allowed.",
            "A device names the address of its push service: without this bound, anybody with an account could make "
            "the server send requests to machines beside it.",
            _PUSH,
            default="none",
        ),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option(
            "ORBITAL_LOG_LEVEL",
            kinds.choice("debug", "info", "warning", "error"),
            "Lowest level of the lines that are logged.",
            "`info` has one line for each start, stop, opened and closed connection.",
            _LOGS,
        ),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"] | None,
        Option(
            "ORBITAL_LOG_FORMAT",
            kinds.choice("text", "json"),
            "Format of log lines: text for people or JSON for programs.",
            "Terminals are read by people, other outputs by programs.",
            _LOGS,
            default="text on a terminal, json elsewhere",
        ),
    ] = None
    log_file: Annotated[
        Path | None,
        Option(
            "ORBITAL_LOG_FILE",
            kinds.FILE,
            "File that gets the log lines in place of standard error; SIGHUP opens it again after a rotation.",
            "systemd, Docker and Kubernetes collect standard error and rotate it.",
            _LOGS,
            default="none",
        ),
    ] = None
    tracing: Annotated[
        bool,
        Option(
            "ORBITAL_TRACING",
            kinds.SWITCH,
            "Whether OpenTelemetry traces of requests, appends and deliveries are sent; needs the extra `otel`. The "
            "collector is named by OpenTelemetry's own `OTEL_EXPORTER_OTLP_ENDPOINT`.",
            "Traces cost time at each request, and most servers have no collector.",
            _LOGS,
        ),
    ] = False
    log_addresses: Annotated[
        bool,
        Option(
            "ORBITAL_LOG_ADDRESSES",
            kinds.SWITCH,
            "Whether the lines about refused logins, sign-ups and limits have the client's address.",
            "fail2ban and an operator need it to block an address that guesses passwords.",
            _LOGS,
        ),
    ] = True

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
        Return who may create an account.

        Args:
            forwarded: Whether a proxy forwarded the request: then it may come from anywhere.
        """
        if self.signups is not None:
            return self.signups
        return "open" if self.local and not forwarded else "invited"

    @property
    def contact(self) -> str:
        """Where push services can reach the operator."""
        if self.push_contact is not None:
            return self.push_contact
        if self.public_url is not None and self.public_url.startswith("https://"):
            return self.public_url
        return "mailto:operator@orbital.invalid"

    @property
    def media_limits(self) -> MediaLimits:
        """The limits of media."""
        return MediaLimits(
            chunk_bytes=self.media_chunk_bytes,
            file_bytes=self.media_file_bytes,
            group_bytes=self.media_group_bytes,
            group_files=self.media_group_files,
            total_bytes=self.media_total_bytes or None,
            user_uploads=self.user_uploads,
        )

    @property
    def database(self) -> DatabaseAddress:
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
    """Return those settings, in the order of the table; an unknown name is an internal bug."""
    chosen = tuple(option for option in OPTIONS if option.field in fields)
    if len(chosen) != len(set(fields)):
        raise AssertionError(f"no such setting among {fields}")
    return chosen
