"""Warnings about settings that are valid but probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orbital_relay.config.database import SqliteFile
from orbital_relay.config.loading import environment
from orbital_relay.config.settings import OPTIONS, Settings
from orbital_relay.config.sources import unknown_variables


def doubts(settings: Settings, environ: Mapping[str, str] | None = None) -> list[str]:
    """
    Return a sentence for each setting that is allowed and probably not meant, and for contradictions between settings.

    Args:
        settings: All settings.
        environ: The environment; the process' own when left out.
    """
    environ = environment(environ)
    return [
        *_of_secrets(settings),
        *_of_people(settings),
        *_of_sizes(settings),
        *_of_the_network(settings),
        *(
            f"{option.env} holds a carriage return: the file that it comes from has Windows line ends (CRLF). "
            "Convert the file, or servers and tools that read it otherwise will not agree."
            for option in OPTIONS
            if "\r" in environ.get(option.env, "")
        ),
        *unknown_variables(environ),
    ]


def _of_secrets(settings: Settings) -> Iterator[str]:
    for name, secret in (("JWT_SECRET", settings.jwt_secret), ("JWT_SECRET_ACCEPTED", settings.jwt_secret_accepted)):
        if secret is not None and len(secret.encode("utf-8", "surrogateescape")) < 32:
            # RFC 7518 §3.2: a key for HS256 has at least the size of the hash.
            yield f"{name} has fewer than 32 bytes, so tokens could be forged by trying secrets."
    if settings.jwt_secret_accepted is not None and settings.jwt_secret_accepted == settings.jwt_secret:
        yield "JWT_SECRET_ACCEPTED is the same as JWT_SECRET, and does nothing."
    if settings.jwt_secret is None and settings.redis_url is not None:
        yield (
            "REDIS_URL is set and JWT_SECRET is not: servers with data folders of their own refuse each other's tokens."
        )


def _of_people(settings: Settings) -> Iterator[str]:
    if settings.signups == "open" and not settings.local:
        gib = settings.media_group_bytes / 2**30
        yield (
            f"ORBITAL_SIGNUPS is open on an address that others reach ({settings.host}): anybody can make accounts and "
            f"groups here, and store up to {gib:g} GiB of media in each. `invited` asks for an invitation."
        )


def _of_sizes(settings: Settings) -> Iterator[str]:
    if settings.media_chunk_bytes > settings.media_file_bytes:
        yield (
            f"ORBITAL_MEDIA_CHUNK_BYTES ({settings.media_chunk_bytes}) is larger than ORBITAL_MEDIA_FILE_BYTES "
            f"({settings.media_file_bytes}): no chunk of that size is accepted. Lower the first."
        )
    if settings.media_file_bytes > settings.media_group_bytes:
        yield (
            f"ORBITAL_MEDIA_FILE_BYTES ({settings.media_file_bytes}) is larger than ORBITAL_MEDIA_GROUP_BYTES "
            f"({settings.media_group_bytes}): no medium of that size is accepted. Lower the first."
        )
    if 0 < settings.media_total_bytes < settings.media_group_bytes:
        yield (
            f"ORBITAL_MEDIA_TOTAL_BYTES ({settings.media_total_bytes}) is smaller than ORBITAL_MEDIA_GROUP_BYTES "
            f"({settings.media_group_bytes}): one group can use up the room of all. Lower the second."
        )


def _of_the_network(settings: Settings) -> Iterator[str]:
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        yield (
            "ORBITAL_TRUSTED_PROXIES trusts every address, so any client can forge its own by `X-Forwarded-For` and "
            "evade the limits. Name your proxy alone."
        )
    if settings.public_url is not None and settings.public_url.startswith("http://") and not settings.local:
        yield (
            f"ORBITAL_PUBLIC_URL is {settings.public_url}, without TLS: passwords and tokens can be read on the way, "
            "and browsers offer neither encryption nor notifications. Use an https:// address."
        )
    if settings.redis_url is not None and isinstance(settings.database, SqliteFile):
        yield (
            "REDIS_URL is set and the database is a file, which one server writes: a cluster needs PostgreSQL. "
            "Set DATABASE_URL, or remove REDIS_URL."
        )
