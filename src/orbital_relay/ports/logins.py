"""The port to logins, and to the one-time codes that set another password."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.model import Account, Login, UserId


class LoginStore(Protocol):
    """Logins whose tokens may hold. No token is stored."""

    async def add_login(self, user_id: UserId, *, login_id: str, name: str, at_ms: int, expires_ms: int) -> None:
        """Enter a login of a user."""
        ...

    async def extend_login(self, login_id: str, *, expires_ms: int) -> bool:
        """Note when the newest token of a login ends; return False if there is no such login."""
        ...

    async def logins(self, user: int, *, now_ms: int, limit: int, offset: int = 0) -> tuple[list[Login], bool]:
        """Return a page of a user's logins, the last used first, and whether more follow."""
        ...

    async def end_login(self, user: int, *, login_id: str, digest: bytes, at_s: float, until_s: float) -> bool:
        """
        Delete a login of a user, and revoke its tokens; return False if there is no such login.

        Args:
            user: The row number of its user.
            login_id: The login.
            digest: What the revocation names it by.
            at_s: When, seconds since the epoch.
            until_s: When the revocation may be forgotten.
        """
        ...

    async def note_logins(self, login_ids: list[str], *, at_ms: int) -> None:
        """Note when logins were last used, 500 of them at most."""
        ...

    async def prune_logins(self, *, before_ms: int, limit: int) -> int:
        """Delete logins whose last token ended before a moment, `limit` at most; return how many."""
        ...


class PasswordResets(Protocol):
    """One-time codes that set another password. Of a code its SHA-256 alone is stored."""

    async def set_reset(self, user: int, *, digest: bytes, expires_ms: int) -> None:
        """Give an account a one-time code, by its SHA-256; it replaces the one before."""
        ...

    async def reset_opens(self, digest: bytes, *, now_ms: int) -> Account | None:
        """Return the account whose one-time code it is, None if there is none or the code has expired."""
        ...

    async def reset_password(self, digest: bytes, *, password_hash: str, now_ms: int) -> None:
        """
        Give the account of a one-time code another password, and use the code up.

        Raises:
            ResetRefused: If the code is unknown, used or expired.
        """
        ...
