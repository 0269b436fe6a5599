"""The ports to idempotency keys and to revoked tokens."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.api.media import MediaStored
from orbital_relay.model import IdempotencyKey, Revocation, UserId


class IdempotencyKeys(Protocol):
    """First answers; a draft's own key is written with its event, by `Log.append`."""

    async def first_receipt(self, user: int, idempotency_key: IdempotencyKey, *, now_ms: int) -> MediaStored | None:
        """
        Return what a medium came to that was completed under an idempotency key, None for a new key.

        Raises:
            Conflict: If it was used with another request.
        """
        ...

    async def prune_keys(self, *, before_ms: int, limit: int) -> int:
        """Drop up to `limit` idempotency keys first used before `before_ms`; return how many went."""
        ...


class RevocationStore(Protocol):
    """Tokens that no longer hold. A number is never given twice, and rises with each revocation."""

    async def revoke(self, *, token_digest: bytes | None, user_id: UserId | None, at_s: float, until_s: float) -> None:
        """Note a revocation; it may be forgotten after `until_s`."""
        ...

    async def revocations(self, *, after: int) -> list[Revocation]:
        """Return the revocations with a number above `after`, in order."""
        ...
