"""The token or ticket of a request: header, subprotocol or query. No text or repr contains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class Bearer(msgspec.Struct, frozen=True):
    """A JWT that came with a request. Its text never shows."""

    token: str

    def __repr__(self) -> str:
        """Show nothing of the token."""
        return "Bearer(***)"


class Ticket(msgspec.Struct, frozen=True):
    """A ticket that came with a handshake. Its text never shows."""

    ticket: str

    def __repr__(self) -> str:
        """Show nothing of the ticket."""
        return "Ticket(***)"


SUBPROTOCOL: Final = "orbital.v1"
"""What the server answers to a handshake that offers it (RFC 6455 §1.9)."""


def bearer(authorization: str | None) -> str | None:
    """Return the token of an `Authorization: Bearer …` header (RFC 6750 §2.1), or None when it is none."""
    if authorization is None:
        return None
    scheme, _, token = authorization.strip().partition(" ")
    # RFC 9110 §11.1: the scheme's case does not matter.
    return token.strip() or None if scheme.lower() == "bearer" else None


def credential(*, authorization: str | None, protocols: str | None, query: Mapping[str, str]) -> Bearer | Ticket | None:
    """
    Find what a handshake brings, in the protocol's order: header, subprotocol, ticket, query.

    Args:
        authorization: The header of that name.
        protocols: The header `Sec-WebSocket-Protocol`.
        query: The fields of the address after `?`, the first of each name, percent-decoded.
    """
    token = bearer(authorization)
    if token is not None:
        return Bearer(token)
    for offer in (protocols or "").split(","):
        name = offer.strip()
        if name.startswith("bearer."):
            return Bearer(name.removeprefix("bearer."))
    if query.get("ticket"):
        return Ticket(query["ticket"])
    return Bearer(query["token"]) if query.get("token") else None
