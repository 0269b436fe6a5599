"""What uvicorn's parser of HTTP says by itself, in the form that all our errors have."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orbital.errors import ValidationFailed

_ABOUT: Final = "This is no HTTP/1.1 request, or its method is none that is known."


class JsonErrors(HttpToolsProtocol):
    """
    uvicorn's HTTP, but for the answer to what it cannot read, and for an upgrade from HTTP/1.0.

    It never speaks plain text to a client.
    """

    def _should_upgrade(self) -> bool:
        # RFC 9110 §7.8: HTTP/1.0 knows no upgrade; where one is asked for it is passed over.
        return self.parser.get_http_version() != "1.0" and super()._should_upgrade()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - one sentence for whatever it was
        """Refuse what is no request, and close: nobody knows where the next one would begin (RFC 9112 §2.2)."""
        body = ValidationFailed(_ABOUT).body()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"cache-control: no-store\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()
