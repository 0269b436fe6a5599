"""The port to users."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.model import Account, IdempotencyKey, UserId


class Accounts(Protocol):
    """Users who signed up, and users of an outside identity provider."""

    async def add_account(
        self,
        *,
        user_id: UserId,
        username: str,
        public_key: bytes,
        password_hash: str,
        at_ms: int,
        once: IdempotencyKey | None = None,
    ) -> Account:
        """
        Add a user who signs up, and in the same transaction the idempotency key that did it.

        Raises:
            UsernameTaken: If another sign-up has the name, in whatever case.
        """
        ...

    async def signed_up(self, username: str, once: IdempotencyKey, *, now_ms: int) -> Account | None:
        """
        Return the account of that name if a sign-up with this key made it in the last 24 hours.

        Raises:
            Conflict: If the key was used for another body.
        """
        ...

    async def account(self, username: str) -> Account | None:
        """Return the user who signed up with that name, in whatever case."""
        ...

    async def enter_user(self, *, user_id: UserId, username: str, at_ms: int) -> int:
        """Return the row number of a token's user; one not known yet is entered with that name."""
        ...

    async def find_user(self, user_id: UserId) -> Account | None:
        """Return a user by the public id."""
        ...
