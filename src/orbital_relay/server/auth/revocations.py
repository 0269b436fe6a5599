"""Which tokens were revoked, asked on every use of one."""

from __future__ import annotations

from typing import Final

from orbital_relay.model import Revocation, UserId
from orbital_relay.ports import Clock, Store


class Revocations:
    """
    Which tokens were revoked, as of the last look into the store; asked on every use of a token.

    It is asked without waiting, so a revocation made by another process counts from the next `refresh` on.

    Args:
        store: Where revocations are kept.
        clock: The time.
    """

    OVERLAP: Final = 64
    """Numbers read again each time: a transaction with a lower number may have committed after one with a higher."""
    RELOAD_S: Final = 3600
    """How often all are read anew, so that those which the store forgot are forgotten here too."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: set[int] = set()
        self._tokens: set[bytes] = set()
        self._users: dict[UserId, float] = {}
        self._last = 0
        self._loaded_s: float | None = None
        self._looks = 0

    def covers(self, *, token_digest: bytes, user_id: UserId, issued_at_s: float) -> bool:
        """Tell whether a token is revoked: itself, or with all that its user had by then."""
        if token_digest in self._tokens:
            return True
        until_s = self._users.get(user_id)
        return until_s is not None and issued_at_s <= until_s

    async def refresh(self) -> list[Revocation]:
        """
        Look into the store; return what is new since the last look.

        Raises:
            Unavailable: If the database is away; what was known stays known.
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
                self._users[each.user_id] = max(each.at_s, self._users.get(each.user_id, each.at_s))
            self._last = max(self._last, each.number)
        self._seen.update(each.number for each in found)
        self._seen = {number for number in self._seen if number >= self._last - self.OVERLAP}
        return fresh
