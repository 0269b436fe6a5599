"""Admission: decide whether a handshake becomes a connection, before the upgrade."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from orbital_relay.config import Settings
from orbital_relay.core.refusals import token_ended
from orbital_relay.errors import Forbidden, NotFound, OrbitalError, Unauthorized, Unavailable
from orbital_relay.model import Principal
from orbital_relay.ports import Limiter
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.credentials import SUBPROTOCOL, Bearer, Ticket, credential
from orbital_relay.server.edge.handshake import Admit, Handshake, Refuse, refusal
from orbital_relay.server.edge.peer import Peer
from orbital_relay.server.edge.request_head import request_id
from orbital_relay.server.lifecycle import Lifecycle
from orbital_relay.server.limits.limit_log import LimitLog
from orbital_relay.server.limits.policy import (
    ConnectPolicy,
    asked_host,
    client_address,
    is_proxy,
    origin_allowed,
    too_many,
)

ATTEMPTS: Final = "connection attempts"

PATHS: Final = frozenset({"/ws", "/v1/websocket"})
"""The endpoint, by both of its names."""


class Admission:
    """
    What the settings decide about connections: addresses behind proxies, origins, attempts.

    Args:
        settings: Proxies, origins, limits.
        limiter: Where attempts are counted.

    Attributes:
        policy: The limits on attempts.
        limit_log: Notes limits that were reached, those on requests too.
    """

    def __init__(self, settings: Settings, *, limiter: Limiter) -> None:
        self._settings = settings
        self.policy = ConnectPolicy(settings, limiter)
        self.limit_log = LimitLog()

    def address(self, peer: str | None, forwarded_for: str | None) -> str:
        """Return the client's address, behind trusted proxies too; warn once of a header that does not count."""
        trusted = self._settings.trusted_proxies
        if forwarded_for is not None and not is_proxy(peer, trusted):
            self.limit_log.untrusted(peer)
        return client_address(peer, () if forwarded_for is None else (forwarded_for,), trusted)

    def allows_origin(self, headers: Mapping[str, str], *, peer: str | None) -> bool:
        """Return whether the page that sends this handshake may connect, also through a proxy that changes `Host`."""
        origin, allowed = headers.get("origin"), self._settings.allowed_origins
        if not allowed or origin is None:
            return True
        trusted = self._settings.trusted_proxies
        host = asked_host(peer, headers.get("host"), headers.get("x-forwarded-host"), trusted)
        return origin_allowed(origin, allowed, host=host)

    async def peek(self, address: str, principal: Principal) -> None:
        """
        Look, without counting, whether a handshake would be within the limits.

        Raises:
            TooManyRequests: If it would not.
        """
        wait_s = await self.policy.peek(address, principal.user_id)
        if wait_s is not None:
            raise too_many(wait_s, ATTEMPTS)


class HandshakeAdmission:
    """
    Decides in the protocol's order: path, upgrade (the edge looks), draining, origin, limit, token.

    A limit is answered before a bad token, and is counted knowing whether the token is valid. A refusal never names
    more than one reason.
    """

    def __init__(
        self,
        *,
        open_session: Callable[[Principal], Peer],
        auth: Auth,
        admission: Admission,
        lifecycle: Lifecycle,
        refusals: Counter[str],
    ) -> None:
        """
        Args:
            open_session: Makes the session of an admitted user.
            auth: Verifies tokens and tickets.
            admission: Limits and origins.
            lifecycle: Whether the server is draining.
            refusals: Counts refused handshakes by code.
        """
        self._open_session = open_session
        self._auth = auth
        self._admission = admission
        self._lifecycle = lifecycle
        self._refusals = refusals

    def route(self, path: str) -> Refuse | None:
        """Refuse a path that is not the endpoint's."""
        if path in PATHS:
            return None
        return self._refuse(NotFound("There is no WebSocket here; it is at /ws."))

    def decide(self, handshake: Handshake) -> Admit | Refuse | Awaitable[Admit | Refuse]:
        """Decide about a handshake: at once when its token was seen before and limits are counted here."""
        if self._lifecycle.draining:
            return self._refuse(_restarting(), handshake.headers)
        headers = handshake.headers
        peer = handshake.peer[0] if handshake.peer is not None else None
        if not self._admission.allows_origin(headers, peer=peer):
            return self._refuse(Forbidden("Pages of this origin may not connect here."))
        address = self._admission.address(peer, handshake.headers.get("x-forwarded-for"))
        brought = credential(
            authorization=handshake.headers.get("authorization"),
            protocols=handshake.headers.get("sec-websocket-protocol"),
            query=handshake.query,
        )
        principal: Principal | None = None
        match brought:
            case Bearer(token=token):
                principal = self._auth.cached(token)
            case Ticket(ticket=ticket):
                principal = self._auth.redeem_now(ticket)
        if principal is not None and self._admission.policy.local:
            return self._admit(handshake, principal, self._admission.policy.admit_now(address, principal.user_id))
        return self._decide_slowly(handshake, address, brought, principal)

    async def _decide_slowly(
        self, handshake: Handshake, address: str, brought: Bearer | Ticket | None, principal: Principal | None
    ) -> Admit | Refuse:
        refused: OrbitalError = Unauthorized(
            "A token is needed: by the Authorization header, the subprotocol bearer.<JWT>, ?ticket= or ?token=."
        )
        if principal is None:
            try:
                match brought:
                    case Bearer(token=token):
                        principal = await self._auth.verify(token)
                    case Ticket(ticket=ticket):
                        principal = await self._auth.redeem(ticket)
                        refused = Unauthorized("This ticket was used, or is older than 30 seconds. Ask for a new one.")
            except Unauthorized as exc:
                refused = exc
            except OrbitalError as exc:
                return self._refuse(exc, handshake.headers)
        wait_s = await self._admission.policy.admit(address, None if principal is None else principal.user_id)
        # During the wait the server may have begun to shut down, and the token may have been revoked.
        if self._lifecycle.draining:
            return self._refuse(_restarting(), handshake.headers)
        if principal is not None and not self._auth.holds(principal):
            principal, refused = None, token_ended()
        if principal is None:
            return self._refuse(refused) if wait_s is None else self._refuse_attempt(handshake, wait_s)
        return self._admit(handshake, principal, wait_s)

    def _admit(self, handshake: Handshake, principal: Principal, wait_s: float | None) -> Admit | Refuse:
        if wait_s is not None:
            return self._refuse_attempt(handshake, wait_s)
        offered = handshake.headers.get("sec-websocket-protocol", "")
        names = {name.strip() for name in offered.split(",")}
        return Admit(self._open_session(principal), subprotocol=SUBPROTOCOL if SUBPROTOCOL in names else None)

    def _refuse_attempt(self, handshake: Handshake, wait_s: float) -> Refuse:
        refused = too_many(wait_s, ATTEMPTS)
        headers = handshake.headers
        address = self._admission.address(
            None if handshake.peer is None else handshake.peer[0], headers.get("x-forwarded-for")
        )
        self._admission.limit_log.note(refused, address=address, request_id=request_id(headers.get("x-request-id")))
        return self._refuse(refused)

    def _refuse(self, error: OrbitalError, headers: Mapping[str, str] | None = None) -> Refuse:
        self._refusals[error.code] += 1
        return refusal(error, given_id=None if headers is None else headers.get("x-request-id"))


def _restarting() -> Unavailable:
    return Unavailable("The server is restarting. Connect again in a moment.", retry_after_s=2)
