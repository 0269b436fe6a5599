"""Log lines for exceeded rate limits, for operators and programs such as fail2ban."""

from __future__ import annotations

import logging
import time
from typing import Final

from orbital_relay.errors import OrbitalError, TooManyRequests

log = logging.getLogger("orbital.limits")

LOGGED_A_SECOND: Final = 20
"""Lines a second about limits that were reached, and as many about failures; each is some 150 bytes."""


class LimitLog:
    """
    Writes one line an address, limit and second at most: refusals cost a client nothing, and lines take room.

    A line has the address, behind trusted proxies the client's own, and the id of the request.
    """

    def __init__(self) -> None:
        self._second = 0
        self._logged: set[tuple[str, str]] = set()
        self._failed = 0
        self._warned_of_header = False

    def note(self, refusal: TooManyRequests, *, address: str, request_id: str) -> None:
        """Write the line, unless this second has it or has had enough of them."""
        self._turn()
        limit = refusal.limit
        if (limit, address) not in self._logged and len(self._logged) < LOGGED_A_SECOND:
            self._logged.add((limit, address))
            log.warning(
                "limit reached",
                extra={
                    "address": address,
                    "limit": limit,
                    "retry_after_s": refusal.retry_after_s,
                    "request_id": request_id,
                },
            )

    def failed(self, error: OrbitalError, *, path: str, request_id: str) -> None:
        """
        Write the line of a request that the server could not answer, unless this second has had enough of them.

        Args:
            error: What was answered, a 5xx.
            path: The route, never the path of the request: that may hold an id.
            request_id: The id that the client was given, too.
        """
        self._turn()
        if self._failed < LOGGED_A_SECOND:
            self._failed += 1
            extra = {"path": path, "status": error.status, "code": error.code, "reason": error.message}
            log.warning("request not served", extra={**extra, "request_id": request_id})

    def untrusted(self, peer: str | None) -> None:
        """Warn of an `X-Forwarded-For` that does not count; once, since any client can send the header."""
        if not self._warned_of_header:
            self._warned_of_header = True
            log.warning(
                "X-Forwarded-For is ignored: it comes from an address that is not in ORBITAL_TRUSTED_PROXIES. "
                "If that is your proxy, name it there: all its users count as one address until then",
                extra={"address": peer},
            )

    def _turn(self) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._logged, self._failed = second, set(), 0
