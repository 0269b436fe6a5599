"""Last seen: when each user and login was last active, to the hour."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Protocol, TypeVar

from orbital_relay.model import Principal
from orbital_relay.ports import Clock, Store
from orbital_relay.server.auth.authenticator import Auth

T = TypeVar("T")

HOUR_MS: Final = 3_600_000
"""No finer: it tells the operator which accounts are in use, not when somebody slept."""
SOME: Final = 500
"""Users of one transaction."""


class _Session(Protocol):
    @property
    def principal(self) -> Principal: ...


class LastSeen:
    """
    Writes the hour in which a user, and a login, was last here: once an hour for each that is.

    Args:
        auth: Knows whose tokens were used.
        sessions: The open connections, which use no token again.
        store: Where it is written.
        clock: The time.
    """

    def __init__(self, *, auth: Auth, sessions: Collection[_Session], store: Store, clock: Clock) -> None:
        self._auth = auth
        self._sessions = sessions
        self._store = store
        self._clock = clock
        self._hour_ms = 0
        self._written: set[int] = set()
        self._logins_written: set[str] = set()

    def forget(self) -> None:
        """Drop what is known of row numbers: the database has gone back, and they may be others' now."""
        self._auth.seen.clear()
        self._auth.seen_logins.clear()
        self._written.clear()
        self._logins_written.clear()

    async def write(self) -> None:
        """
        Write who was here since the last call.

        Raises:
            Unavailable: If the database is unreachable; the next call writes the same.
        """
        hour_ms = self._clock.wall_ms() // HOUR_MS * HOUR_MS
        if hour_ms != self._hour_ms:
            self._hour_ms, self._written, self._logins_written = hour_ms, set(), set()
        here = self._auth.seen | {session.principal.key for session in self._sessions}
        fresh = sorted(here - self._written)
        for some in _batched(fresh, SOME):
            await self._store.note_seen(some, at_ms=hour_ms)
            self._written.update(some)
        # What was used while this waited may be in it, too: it is written already, or the next call finds it.
        self._auth.seen -= self._written
        used = self._auth.seen_logins | {session.principal.login_id for session in self._sessions}
        for logins in _batched(sorted(used - self._logins_written - {""}), SOME):
            await self._store.note_logins(logins, at_ms=hour_ms)
            self._logins_written.update(logins)
        self._auth.seen_logins -= self._logins_written


def _batched(keys: list[T], size: int) -> Iterable[list[T]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
