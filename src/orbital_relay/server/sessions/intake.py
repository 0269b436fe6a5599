"""Backpressure on one client's input: the high watermark of waiting frames, above which reading pauses."""

from __future__ import annotations

from typing import Final

from orbital_relay.server.sessions.outgoing import Outgoing

WAITING_MOST: Final = 256
"""High watermark: frames of one client that wait for the store. Reading pauses above it, and resumes at half of it."""

WAITING_BYTES: Final = 128 * 1024
"""The same in bytes: two of the longest. A decoded frame of ids takes up to ten times its length in memory."""

OWN_BYTES: Final = 64 * 1024
"""Answers that wait for a client that does not read; above that nothing more is read from it, in bytes."""


class Intake:
    """
    The reading side of one connection. It pauses the socket; it never drops a frame.

    Reading pauses while too many frames wait for the store, while too many answers wait for the client, and while its
    user's budget is spent.
    """

    __slots__ = ("_bytes", "_final", "_frames", "_held", "_outgoing", "_paused")

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._frames = 0
        self._bytes = 0
        self._paused = False
        self._held = False
        self._final = False

    def enter(self, size_bytes: int) -> None:
        """Count a frame that waits for the store."""
        self._frames += 1
        self._bytes += size_bytes
        if self._frames > WAITING_MOST or self._bytes > WAITING_BYTES:
            self._pause()

    def leave(self, size_bytes: int) -> None:
        """Count a frame no longer; resume below the low watermark."""
        self._frames -= 1
        self._bytes -= size_bytes
        self.look()

    def look(self) -> None:
        """Pause or resume as the buffers of answers and frames ask for."""
        # While the transport takes more, answers leave at the end of this turn of the loop.
        if self._outgoing.size_bytes > OWN_BYTES and not self._outgoing.writer.writable:
            self._pause()
            return
        busy = self._held or self._frames > WAITING_MOST // 2 or self._bytes > WAITING_BYTES // 2
        if self._paused and not busy and not self._final:
            self._paused = False
            self._outgoing.writer.resume_reading()

    def hold(self) -> None:
        """Pause until `release`: the user's budget is spent."""
        self._held = True
        self._pause()

    def release(self) -> None:
        """Resume, unless there is another reason to pause."""
        self._held = False
        self.look()

    def finish(self) -> None:
        """Never resume from now on."""
        self._final = True

    def stop(self) -> None:
        """Pause permanently: the connection is about to be closed by this server."""
        self._final = True
        self._pause()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._outgoing.writer.pause_reading()
