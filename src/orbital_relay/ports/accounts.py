"""The ports to users and to the invitations that let them sign up."""

from __future__ import annotations

from typing import Protocol

import msgspec

from orbital_relay.model import Account, IdempotencyKey, UserId


class Invitation(msgspec.Struct, frozen=True):
    """
    An operator's invitation, good for one account. The code is nowhere stored.

    Attributes:
        number: Its row number, by which the operator names it.
        note: Whom the operator meant it for.
        created_ms: When it was made, milliseconds.
        expires_ms: Until when it may be used.
        used_ms: When it was used; None while it was not.
        used_by: The name of the account that it made; None also once that account is deleted.
    """

    number: int
    note: str
    created_ms: int
    expires_ms: int
    used_ms: int | None
    used_by: str | None


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
        idempotency_key: IdempotencyKey | None = None,
        invitation: bytes | None = None,
    ) -> Account:
        """
        Add a user who signs up, and in the same transaction the idempotency key that did it.

        Args:
            user_id: The public id.
            username: As it was sent.
            public_key: JSON, passed on as it is.
            password_hash: The hash.
            at_ms: The wall clock.
            idempotency_key: The one of the request, when the client gave one.
            invitation: Digest of the operator's invitation that this account uses up.

        Raises:
            UsernameTaken: If another sign-up has the name, in whatever case.
            SignupsClosed: If the invitation is unknown, used or expired.
        """
        ...

    async def signed_up(self, username: str, idempotency_key: IdempotencyKey, *, now_ms: int) -> Account | None:
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
        """
        Return the row number of a token's user; one not known yet is entered with that name.

        Raises:
            AccountDisabled: If the account is disabled.
        """
        ...

    async def find_user(self, user_id: UserId) -> Account | None:
        """Return a user by the public id."""
        ...

    async def set_display_name(self, user: int, display_name: str | None) -> None:
        """Give a user, by row number, another display name; None removes it."""
        ...


class Invitations(Protocol):
    """What lets a person sign up where not everybody may."""

    async def add_invitation(self, *, digest: bytes, note: str, at_ms: int, expires_ms: int) -> Invitation:
        """Add an operator's invitation, by the SHA-256 of its code."""
        ...

    async def invitation_opens(self, digest: bytes, *, now_ms: int) -> bool:
        """Return whether an operator's invitation is there, neither used nor expired."""
        ...

    async def invite_code_opens(self, invite_code: str, *, now_ms: int) -> bool:
        """Return whether a group has that invite code, and it has not expired."""
        ...

    async def invitations(self) -> list[Invitation]:
        """Return all operators' invitations, the oldest first."""
        ...

    async def revoke_invitation(self, number: int) -> bool:
        """Delete an invitation that was not used; return whether there was one."""
        ...
