"""Logins: session lifetime and its renewal (sliding expiry); a user lists sessions and ends them one by one."""

from __future__ import annotations

import secrets

from orbital_relay.core.refusals import token_ended
from orbital_relay.errors import Forbidden
from orbital_relay.model import Principal, SignedToken, UserId
from orbital_relay.ports import Clock, Store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.tickets import TICKET_S
from orbital_relay.server.auth.tokens import login_digest_of
from orbital_relay.services import context as services_context


class Logins:
    """
    Opens, renews and ends logins. Every token of a login carries its id, and ends with it.

    It never stores a token: the row of a login says when it was used, and the revocations say whether it holds.

    Args:
        auth: Makes the tokens.
        store: Where the rows are.
        clock: The time.
    """

    def __init__(self, auth: Auth, *, store: Store, clock: Clock) -> None:
        self._auth = auth
        self._store = store
        self._clock = clock

    async def open(self, user_id: UserId, username: str, *, name: str = "") -> SignedToken:
        """
        Enter a login, and make its first token: it holds whatever was revoked before, on this server or another.

        Args:
            user_id: The user.
            username: The user's name.
            name: Name of the login in the list of its user's logins.

        Raises:
            Unavailable: If the database cannot be reached, so that revocations are unknown.
        """
        await self._auth.refresh()
        login_id = secrets.token_urlsafe(12)
        token, expires_at_s = self._auth.mint(user_id, username, login_id=login_id)
        await self._store.add_login(
            user_id, login_id=login_id, name=name, at_ms=self._clock.wall_ms(), expires_ms=expires_at_s * 1000
        )
        return SignedToken(token, expires_at_s)

    async def renew(self, principal: Principal) -> SignedToken:
        """
        Make another token of the principal's login; the present one holds until its own end.

        Raises:
            Forbidden: If another service made the token.
            Unauthorized: If the login has ended.
            Unavailable: If the database cannot be reached.
        """
        if principal.generation is None:
            raise Forbidden("Another service issued this token. Request a new one there.")
        if not principal.login_id:
            return await self.open(principal.user_id, principal.username)
        await self._auth.refresh()
        token, expires_at_s = self._auth.mint(principal.user_id, principal.username, login_id=principal.login_id)
        # The row is gone once the login was ended, also where this server has not read the revocation yet.
        extended = await self._store.extend_login(principal.login_id, expires_ms=expires_at_s * 1000)
        if not extended or not self._auth.holds(principal):
            raise token_ended()
        return SignedToken(token, expires_at_s)

    async def end(self, user: int, login_id: str) -> bool:
        """
        End a login of a user: all of its tokens are revoked from now on. Return False if the user has no such login.

        Args:
            user: The row number of its user.
            login_id: The login.
        """
        now_s = self._clock.wall_ms() / 1000
        # A token that is being made at this moment ends by then.
        until_s = now_s + self._auth.token_s + TICKET_S
        digest = login_digest_of(login_id)
        if not await self._store.end_login(user, login_id=login_id, digest=digest, at_s=now_s, until_s=until_s):
            return False
        await self._auth.announce_revoked()
        return True

    async def log_out(self, principal: Principal) -> None:
        """Revoke a token, and with it its login; other servers see it at their next refresh."""
        if not principal.login_id or not await self.end(principal.key, principal.login_id):
            await self._auth.revoke(principal)

    async def end_all(self, user_id: UserId) -> None:
        """End every login and every token that a user has by now."""
        await self._auth.revoke_user(user_id)


_: type[services_context.Logins] = Logins
