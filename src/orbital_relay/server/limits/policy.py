"""
Rate limit policy: login attempts, requests, handshakes; client address behind trusted proxies; origin check.

What was refused does not count. So a `Retry-After` is exact, and a client that knocks too often is kept out no longer
than one that waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from orbital_relay.config import Network, Settings
from orbital_relay.core.admission import Count, address_key, connect_counts, parse_address
from orbital_relay.errors import TooManyRequests
from orbital_relay.ports import Limiter
from orbital_relay.server.limits.limiter import LocalLimiter

CONNECT_WINDOW_S: Final = 60
"""The protocol counts handshakes by the minute."""
REQUEST_WINDOW_S: Final = 60
"""And other requests, too."""
GUESS_WINDOW_S: Final = 15 * 60
"""Logins, signups and joins are counted in 15 minutes."""

HOUR_S: Final = 3600
RECORD_LIMIT: Final = 30
"""Records of one user in an hour, and as many changes of devices: each one moves the epoch of a group."""
EXPORT_LIMIT: Final = 5
"""Exports of one user in an hour: one reads all that its user can read."""
MAILBOX_LIMIT: Final = 10
"""Mailboxes that one address opens in a minute; a person who links a device needs one."""
MAIL_LIMIT: Final = 60
"""Requests for mailboxes from one address in a minute; one that waits makes two or three."""

NO_ADDRESS: Final = "unix"
"""What stands for a peer without an IP address, as on a Unix socket: all such peers are one."""

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
"""The ports that a browser leaves out of an origin (RFC 6454 §6.1)."""

# Chapter: where somebody comes from


def client_address(peer: str | None, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """
    Return the address that an attempt comes from.

    It is the peer's; or, when the peer is a trusted proxy or on a Unix socket, the right-most address of
    `X-Forwarded-For` that is no trusted proxy's: everything left of it was written by somebody whom nobody here trusts.
    Where an entry is no address, the proxy that passed it on is as far as this can be known.

    Args:
        peer: The address of the socket's other end; None on a Unix socket, where only a proxy connects.
        forwarded_for: The values of all headers of that name, in their order.
        trusted: The proxies' networks.
    """
    here = None if peer is None else parse_address(peer)
    if here is not None and not trusted:
        return str(here)
    # RFC 9110 §5.6.1: empty elements of a list are ignored.
    entries = [entry for entry in ",".join(forwarded_for).split(",") if entry.strip()]
    while here is None or _within(here, trusted):
        further = parse_address(entries.pop()) if entries else None
        if further is None:
            break
        here = further
    return NO_ADDRESS if here is None else str(here)


def is_proxy(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Return whether the socket's other end is a trusted proxy."""
    here = None if peer is None else parse_address(peer)
    return here is not None and _within(here, trusted)


def asked_host(
    peer: str | None, host: str | None, forwarded_host: str | None, trusted: Sequence[Network]
) -> str | None:
    """
    Return the host that a browser asked for: what a trusted proxy says, where it says so, and otherwise `Host`.

    Args:
        peer: The address of the socket's other end; None on a Unix socket, where only a proxy connects.
        host: The header `Host`.
        forwarded_host: The header `X-Forwarded-Host`; a proxy appends what it was asked for itself.
        trusted: The proxies' networks.
    """
    here = None if peer is None else parse_address(peer)
    if forwarded_host is None or (here is not None and not _within(here, trusted)):
        return host
    return forwarded_host.rpartition(",")[2].strip() or host


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def origin_allowed(origin: str | None, allowed: frozenset[str], *, host: str | None) -> bool:
    """
    Return whether a page of that origin may open a connection.

    The server's own page always may: its origin is the host that the browser asked, which a foreign page cannot forge.
    Only the host is compared, since a proxy that ends TLS makes `https` of the browser `http` here.

    Args:
        origin: The header `Origin`; a client without one is not a browser (RFC 6455 §10.2).
        allowed: The origins of the settings, in lower case; empty allows any.
        host: The host that the browser asked for, optionally with a port.
    """
    if not allowed or origin is None:
        return True
    asked = origin.strip().lower()
    if asked in allowed:
        return True
    scheme, _, place = asked.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    # A browser leaves the scheme's own port out of the origin; a proxy may write it into Host.
    return port is not None and place != "" and place == (host or "").strip().lower().removesuffix(port)


# Chapter: limits


class _Counts:
    """Several counts as one: an attempt goes into all of them, or is refused and goes into none."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._local = limiter if isinstance(limiter, LocalLimiter) else None

    @property
    def local(self) -> bool:
        """Whether the answer is there without waiting."""
        return self._local is not None

    def take_now(self, counts: Sequence[Count], window_s: int) -> float | None:
        """Count an attempt, or return the seconds until it would be accepted."""
        local = self._local
        if local is None:
            raise AssertionError("only a limiter in this process can answer at once; look at `local` first")
        if len(counts) > 1:
            wait_s = max(
                local.peek_now(each.name, each.key, limit=each.limit, window_s=window_s) or 0 for each in counts
            )
            if wait_s > 0:
                return wait_s
        for each in counts:
            wait = local.hit_now(each.name, each.key, limit=each.limit, window_s=window_s)
            if wait is not None:
                return wait
        return None

    async def take(self, counts: Sequence[Count], window_s: int) -> float | None:
        """
        Count an attempt, or return the seconds until it would be accepted.

        When servers share the counts, somebody else may take the last place between looking and counting; then an
        attempt that is refused may be in the first of the counts, which costs its owner one try.
        """
        if self._local is not None:
            return self.take_now(counts, window_s)
        if len(counts) > 1:
            wait_s = await self.look(counts, window_s)
            if wait_s is not None:
                return wait_s
        for each in counts:
            wait = await self._limiter.hit(each.name, each.key, limit=each.limit, window_s=window_s)
            if wait is not None:
                return wait
        return None

    async def look(self, counts: Sequence[Count], window_s: int) -> float | None:
        """Return what `take` would, without counting."""
        waits = [await self._limiter.peek(each.name, each.key, limit=each.limit, window_s=window_s) for each in counts]
        return max((wait for wait in waits if wait is not None), default=None)


def too_many(wait_s: float, what: str) -> TooManyRequests:
    """Make the refusal: whole seconds, rounded up so that a client that waits for them is accepted."""
    seconds = max(1, math.ceil(wait_s))
    refusal = TooManyRequests(f"Too many {what}; try again in {seconds} s.", retry_after_s=seconds)
    refusal.limit = what
    return refusal


class ConnectPolicy:
    """
    Who may try to connect now.

    Args:
        settings: The policy and its numbers.
        limiter: Where attempts are counted.
    """

    def __init__(self, settings: Settings, limiter: Limiter) -> None:
        self._policy = settings.connect_policy
        self._limit = settings.connect_limit
        self._ceiling = settings.connect_ceiling
        self._counts = _Counts(limiter)

    @property
    def local(self) -> bool:
        """Whether `admit_now` can be asked."""
        return self._counts.local

    def admit_now(self, address: str, user_id: str | None) -> float | None:
        """Do as `admit`, without waiting; only when `local`."""
        return self._counts.take_now(self._of(address, user_id), CONNECT_WINDOW_S)

    async def admit(self, address: str, user_id: str | None) -> float | None:
        """
        Count a handshake.

        Args:
            address: Where it comes from, as `client_address` says.
            user_id: The user of its token; None if the token is missing or invalid.

        Returns:
            None when it may continue; else the seconds until one may.
        """
        return await self._counts.take(self._of(address, user_id), CONNECT_WINDOW_S)

    async def peek(self, address: str, user_id: str | None) -> float | None:
        """Return what `admit` would, without counting: what a request for a ticket asks."""
        return await self._counts.look(self._of(address, user_id), CONNECT_WINDOW_S)

    def _of(self, address: str, user_id: str | None) -> tuple[Count, ...]:
        return connect_counts(self._policy, address=address, user_id=user_id, limit=self._limit, ceiling=self._ceiling)


class RequestLimits:
    """
    How many requests somebody may make; each method returns when it is one of them, and raises when it is not.

    Args:
        settings: The numbers.
        limiter: Where requests are counted.
    """

    def __init__(self, settings: Settings, limiter: Limiter) -> None:
        self._settings = settings
        self._counts = _Counts(limiter)

    @property
    def local(self) -> bool:
        """Whether `request_now` can be asked."""
        return self._counts.local

    async def login(self, address: str, name: str) -> None:
        """
        Count a login, right or wrong.

        A household shares one address: who mistypes keeps nobody else out before the ceiling is reached.

        Args:
            address: Where it comes from.
            name: Whose it is, bounded in length.

        Raises:
            TooManyRequests: If there were too many from that address under that name, or under all names together.
        """
        place, limit = address_key(address), self._settings.login_limit
        await self._guess(
            "logins",
            Count("login", f"{place} {name}", limit),
            Count("login.ceiling", place, max(limit, self._settings.login_ceiling)),
        )

    async def signup(self, address: str) -> None:
        """
        Count a signup.

        Raises:
            TooManyRequests: If there were too many from that address.
        """
        await self._guess("signups", Count("signup", address_key(address), self._settings.signup_limit))

    async def join(self, address: str, user_id: str) -> None:
        """
        Count a try to join a group.

        Raises:
            TooManyRequests: If there were too many from that address, or by that user from wherever.
        """
        limit = self._settings.join_limit
        await self._guess(
            "tries to join", Count("join", address_key(address), limit), Count("join.user", user_id, limit)
        )

    async def record(self, user_id: str) -> None:
        """
        Count a record that a user posts.

        Raises:
            TooManyRequests: If there were too many of that user.
        """
        await self._count("records", Count("record", user_id, RECORD_LIMIT), HOUR_S)

    async def device_change(self, user_id: str) -> None:
        """
        Count a change of a user's devices: each one interrupts all who post to the user's groups.

        Raises:
            TooManyRequests: If there were too many of that user.
        """
        await self._count("changes of devices", Count("device", user_id, RECORD_LIMIT), HOUR_S)

    async def export(self, user_id: str) -> None:
        """
        Count an export of an account.

        Raises:
            TooManyRequests: If there were too many of that user.
        """
        await self._count("exports", Count("export", user_id, EXPORT_LIMIT), HOUR_S)

    async def provision(self, address: str) -> None:
        """
        Count a mailbox that is opened.

        Raises:
            TooManyRequests: If there were too many from that address.
        """
        await self._count("mailboxes", Count("mailbox", address_key(address), MAILBOX_LIMIT), REQUEST_WINDOW_S)

    async def mailbox(self, address: str) -> None:
        """
        Count a request for what is in a mailbox.

        Raises:
            TooManyRequests: If there were too many from that address.
        """
        await self._count("requests", Count("mail", address_key(address), MAIL_LIMIT), REQUEST_WINDOW_S)

    async def _count(self, what: str, count: Count, window_s: int) -> None:
        _refuse(await self._counts.take((count,), window_s), what)

    async def request(self, user_id: str) -> None:
        """
        Count any other request.

        Raises:
            TooManyRequests: If there were too many of that user.
        """
        _refuse(await self._counts.take(self._request_of(user_id), REQUEST_WINDOW_S), "requests")

    def request_now(self, user_id: str) -> None:
        """Do as `request`, without waiting; only when `local`."""
        _refuse(self._counts.take_now(self._request_of(user_id), REQUEST_WINDOW_S), "requests")

    def _request_of(self, user_id: str) -> tuple[Count]:
        return (Count("request", user_id, self._settings.request_limit),)

    async def _guess(self, what: str, *counts: Count) -> None:
        _refuse(await self._counts.take(counts, GUESS_WINDOW_S), what)


def _refuse(wait_s: float | None, what: str) -> None:
    if wait_s is not None:
        raise too_many(wait_s, what)
