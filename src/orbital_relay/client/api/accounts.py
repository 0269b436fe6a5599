"""Requests about accounts and their tokens."""

from __future__ import annotations

from typing import Any

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import key_or_new
from orbital_relay.client.http import Http


class AccountRequests(Http):
    """The server's own card, sign-up, login, logout, and tickets for the socket."""

    async def about(self) -> responses.About:
        """Get the name of the place, its version and limits, and whether a sign-up needs an invitation."""
        return await self._call("GET", "/api/about", responses.About, anonymous=True)

    async def signup(
        self,
        username: str,
        password: str,
        public_key: dict[str, Any],
        *,
        invitation: str | None = None,
        idempotency_key: str | None = None,
    ) -> responses.SignedUp:
        """
        Make an account.

        Args:
            username: 3 to 50 letters, digits and underscores.
            password: At least 12 characters with upper, lower and digit.
            public_key: Any JSON object, such as a JWK.
            invitation: An operator's invitation or a group's invite code, where `about()` says `invited`.
            idempotency_key: The same key for every try; a new one when None.
        """
        body = {"username": username, "password": password, "public_key": public_key}
        if invitation is not None:
            body["invitation"] = invitation
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/api/signup", responses.SignedUp, body=body, key=key, anonymous=True)

    async def login(self, username: str, password: str) -> responses.LoggedIn:
        """Get a token for an account."""
        body = {"username": username, "password": password}
        return await self._call("POST", "/api/login", responses.LoggedIn, body=body, anonymous=True)

    async def logout(self) -> None:
        """Revoke the token; connections that use it end."""
        await self._act("POST", "/api/logout")

    async def ws_ticket(self) -> responses.Ticket:
        """Get a ticket for one handshake."""
        return await self._call("POST", "/api/ws-ticket", responses.Ticket)
