"""Requests about accounts, logins and tokens."""

from __future__ import annotations

from typing import Any

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import key_or_new, segment
from orbital_relay.client.http import Http


class AccountRequests(Http):
    """The server's own card, sign-up, login, one's own account and sessions, and tickets for the socket."""

    async def about(self) -> responses.About:
        """Get the server's name, version and limits, and whether signing up requires an invitation."""
        return await self._call("GET", "/api/about", responses.About, anonymous=True)

    async def signup(
        self,
        username: str,
        password: str,
        public_key: dict[str, Any],
        *,
        invitation: str | None = None,
        device_name: str = "",
        idempotency_key: str | None = None,
    ) -> responses.SignedUp:
        """
        Make an account.

        Args:
            username: 3 to 50 letters, digits and underscores.
            password: At least 12 characters with upper, lower and digit.
            public_key: Any JSON object, such as a JWK.
            invitation: An operator's invitation or a group's invite code, where `about()` says `invited`.
            device_name: Name of the login in `sessions()`, cut to 64 characters.
            idempotency_key: The same key for every try; a new one when None.
        """
        body = {"username": username, "password": password, "public_key": public_key, **_named(device_name)}
        if invitation is not None:
            body["invitation"] = invitation
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/api/signup", responses.SignedUp, body=body, key=key, anonymous=True)

    async def login(self, username: str, password: str, *, device_name: str = "") -> responses.LoggedIn:
        """Get a token for an account; `device_name` is what the login is called in `sessions()`."""
        body = {"username": username, "password": password, **_named(device_name)}
        return await self._call("POST", "/api/login", responses.LoggedIn, body=body, anonymous=True)

    async def logout(self) -> None:
        """Revoke the token; connections that use it end."""
        await self._act("POST", "/api/logout")

    async def account(self) -> responses.OwnAccount:
        """Get the caller's account, and whether it is a server administrator."""
        return await self._call("GET", "/api/account", responses.OwnAccount)

    async def set_display_name(self, display_name: str | None) -> responses.OwnAccount:
        """Set the name that the caller is shown under: 1 to 64 characters of any script; None removes it."""
        body = {"display_name": display_name}
        return await self._call("PUT", "/api/account/display-name", responses.OwnAccount, body=body)

    async def change_password(self, old_password: str, new_password: str) -> responses.IssuedToken:
        """Change the password. All sessions end, the caller's too: use the token of the answer from here on."""
        body = {"old_password": old_password, "new_password": new_password}
        return await self._call("POST", "/api/password", responses.IssuedToken, body=body)

    async def reset_password(self, code: str, new_password: str) -> responses.SignedUp:
        """Set another password by a one-time code of the operator's, and get a token."""
        body = {"code": code, "new_password": new_password}
        return await self._call("POST", "/api/password/reset", responses.SignedUp, body=body, anonymous=True)

    async def sessions(self, *, limit: int | None = None, offset: int | None = None) -> responses.LoginSessions:
        """Read a page of the logins whose tokens hold, the last used first."""
        query = {"limit": limit, "offset": offset}
        return await self._call("GET", "/api/sessions", responses.LoginSessions, query=query)

    async def end_session(self, session_id: str) -> None:
        """End a session: its tokens are revoked, and its connections are closed."""
        await self._act("DELETE", f"/api/sessions/{segment(session_id)}")

    async def renew_session(self) -> responses.IssuedToken:
        """Get a newer token of the same session, without the password."""
        return await self._call("POST", "/api/session/renew", responses.IssuedToken)

    async def delete_account(self, password: str) -> None:
        """Delete the caller's account; this cannot be undone."""
        await self._act("DELETE", "/api/account", body={"password": password})

    async def ws_ticket(self) -> responses.Ticket:
        """Get a ticket for one handshake."""
        return await self._call("POST", "/api/ws-ticket", responses.Ticket)


def _named(device_name: str) -> dict[str, str]:
    """Return the member that names a login, if it has a name: older servers do not know it."""
    return {"device_name": device_name} if device_name else {}
