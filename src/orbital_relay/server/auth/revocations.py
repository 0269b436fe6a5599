"""Token revocation: refuse revoked tokens after logout, checked at every use."""

from __future__ import annotations

from typing import Final

from orbital_relay.model import Revocation, UserId
from orbital_relay.ports import Clock, Store

LEAD_S: Final = 60
"""How far the clock of a service that signs tokens may be ahead of this server's when its users are revoked."""


class Revocations:
    """
    Which tokens were revoked, as of the last look into the store; asked on every use of a token.

    It is asked without waiting, so a revocation made by another process counts from the next `refresh` on.

    Revoking a user ends every token that the user has, and no clock can save one. A token that this server made
    carries the number of the user's last revocation: a later revocation ends it, whatever its `iat` says. A token of
    another service has only its `iat`, and that service's clock may be ahead: it holds when it was issued more than
    `LEAD_S` after the revocation, and not more than `LEAD_S` ahead of this server's clock.

    Args:
        store: Where revocations are kept.
        clock: The time.
    """

    OVERLAP: Final = 64
    """Numbers read again each time: a transaction with a lower number may have committed after one with a higher."""
    RELOAD_S: Final = 3600
    """How often all are read again, so that those which the store forgot are forgotten here too."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: set[int] = set()
        self._tokens: set[bytes] = set()
        self._users: dict[UserId, tuple[float, int]] = {}
        self._last = 0
        self._loaded_s: float | None = None
        self._looks = 0

    def covers(
        self,
        *,
        token_digest: bytes,
        user_id: UserId,
        issued_at_s: float,
        generation: int | None = None,
        login_digest: bytes = b"",
    ) -> bool:
        """
        Return whether a token is revoked: itself, with its login, or with all tokens of its user up to a moment.

        Args:
            token_digest: SHA-256 of the token.
            user_id: Its user.
            issued_at_s: Its `iat`, seconds since the epoch.
            generation: Its claim of that name; None for a token of another service.
            login_digest: That of its login; empty when it has none.
        """
        if token_digest in self._tokens or login_digest in self._tokens:
            return True
        last = self._users.get(user_id)
        if last is None:
            return False
        at_s, number = last
        if generation is None:
            return issued_at_s <= at_s + LEAD_S or issued_at_s > self._clock.wall_ms() / 1000 + LEAD_S
        # The time decides beside the number: in a restored database a new revocation may get an old one's number.
        # `iat` is in whole seconds, so a token made in the second of the revocation is judged by its number alone.
        return generation < number or issued_at_s < int(at_s)

    def generation_of(self, user_id: UserId) -> int:
        """Return the number of a user's last revocation, as far as is known here; 0 when there was none."""
        last = self._users.get(user_id)
        return 0 if last is None else last[1]

    def forget(self) -> None:
        """Read all of them at the next look: the store's numbers may have gone back."""
        self._seen.clear()
        self._last = 0
        self._loaded_s = None

    async def refresh(self) -> list[Revocation]:
        """
        Look into the store; return what is new since the last look.

        Raises:
            Unavailable: If the database cannot be reached; what was known stays known.
        """
        now_s = self._clock.steady_s()
        whole = self._loaded_s is None or now_s - self._loaded_s >= self.RELOAD_S
        before = self._looks
        found = await self._store.revocations(after=0 if whole else max(0, self._last - self.OVERLAP))
        fresh = [each for each in found if each.number not in self._seen]
        self._looks += 1
        # What another look found while this one waited may be newer than the answer: then nothing is forgotten.
        if whole and self._looks == before + 1:
            self._tokens, self._users = set(), {}
            self._loaded_s = now_s
        for each in found:
            if each.token_digest is not None:
                self._tokens.add(each.token_digest)
            if each.user_id is not None:
                at_s, number = self._users.get(each.user_id, (each.at_s, each.number))
                self._users[each.user_id] = max(each.at_s, at_s), max(each.number, number)
            self._last = max(self._last, each.number)
        self._seen.update(each.number for each in found)
        self._seen = {number for number in self._seen if number >= self._last - self.OVERLAP}
        return fresh
