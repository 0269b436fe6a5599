"""The response to a request that cannot be parsed; the connection is then closed."""

from __future__ import annotations

from http import HTTPStatus

from orbital_relay.errors import OrbitalError
from orbital_relay.server.edge.request_head import request_id


def closing_response(error: OrbitalError) -> bytes:
    """Return a whole HTTP/1.1 response with the body of an error, which announces the close (RFC 9112 §9.6)."""
    # The head could not be read, so the id is a new one.
    body = error.body(**({"request_id": request_id(None)} if error.status >= 500 else {}))
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"cache-control: no-store\r\nconnection: close\r\n\r\n%b"
        % (error.status, HTTPStatus(error.status).phrase.encode(), len(body), body)
    )
