"""Notifications to systemd (sd_notify(3)): ready, stopping, reloading, watchdog."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("orbital.server")


class Notifier:
    """
    Sends states to the service manager; without one it does nothing.

    Args:
        address: A path, or `@` and a name in the abstract namespace; None if nobody listens.
        watchdog_s: After how long without `alive` systemd ends the service; None if it does not watch.
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Notifier:
        """Read the variables of sd_notify(3) and sd_watchdog_enabled(3)."""
        address = variables.get("NOTIFY_SOCKET", "")
        interval_us, pid = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
        watched = address and interval_us.isdecimal() and int(interval_us) > 0 and pid in {"", str(os.getpid())}
        return cls(address or None, watchdog_s=int(interval_us) / 1e6 if watched else None)

    @property
    def beat_s(self) -> float | None:
        """How often `alive` is due, in seconds: a third of the watchdog's time, of which systemd advises a half."""
        return None if self.watchdog_s is None else self.watchdog_s / 3

    def ready(self, what: str) -> None:
        """Report that the server serves; `what` is shown by `systemctl status`."""
        self._send(f"READY=1\nSTATUS=Serving {what}")

    def stopping(self) -> None:
        """Report that the server drains."""
        self._send("STOPPING=1\nSTATUS=Draining")

    def reloading(self) -> None:
        """Report that files are read again; `ready` has to follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """Report that the process is not stuck."""
        self._send("WATCHDOG=1")

    async def beat(self) -> None:
        """Report `alive` as often as it is due; returns at once if nobody watches, and otherwise never."""
        if self.beat_s is None:
            return
        while True:
            self.alive()
            await asyncio.sleep(self.beat_s)

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        # A leading NUL names a socket of the abstract namespace (unix(7)).
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), address)
        except OSError as exc:
            log.warning("systemd could not be notified", extra={"state": state.partition("\n")[0], "reason": str(exc)})
