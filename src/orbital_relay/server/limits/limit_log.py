"""A line for each limit that was reached: what an operator, or a program such as fail2ban, acts upon."""

from __future__ import annotations

import logging
import time
from typing import Final

from orbital_relay.errors import TooManyRequests

log = logging.getLogger("orbital.limits")

LOGGED_A_SECOND: Final = 20
"""Lines a second about limits that were reached; each is some 150 bytes."""


class LimitLog:
    """
    Writes one line an address, limit and second at most: refusals cost a client nothing, and lines take room.

    A line has the address, behind trusted proxies the client's own, and the id of the request.
    """

    def __init__(self) -> None:
        self._second = 0
        self._logged: set[tuple[str, str]] = set()

    def note(self, refusal: TooManyRequests, *, address: str, request_id: str) -> None:
        """Write the line, unless this second has it or has had enough of them."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._logged = second, set()
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
