"""The writer of one WebSocket connection: its write buffer, high watermark and low watermark (backpressure)."""

from __future__ import annotations

import asyncio
from typing import Final

from orbital_relay.core.framing import close_frame

LINGER_S: Final = 1.5
"""How long a connection stays open after a Close or a refusal, so that the client can read it; then it is aborted."""


class SocketWriter:
    """
    The sending side of a connection, for its peer.

    It never delays and never drops a message: while it is not `writable`, the peer has to stop by itself.
    """

    __slots__ = ("_code", "_held", "_lingering", "_loop", "_lost", "_open", "_transport", "deflate", "writable")

    deflate: bool
    """Whether permessage-deflate was negotiated, so that the client understands compressed frames."""
    writable: bool
    """False between `paused` and `resumed`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, deflate: bool) -> None:
        self._transport = transport
        self._loop = loop
        self._open = True  # No Close was sent or received: data may go out.
        self._lost = False  # The transport is closed.
        self._code: int | None = None
        # What is written between `_hold` and `_release`.
        self._held: list[bytes] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self.deflate = deflate
        self.writable = True

    def write(self, wire: bytes) -> None:
        """
        Send the bytes of one or more complete frames; after a Close they are discarded.

        Args:
            wire: Frames as core/framing.py and server/edge/deflate.py make them.
        """
        if self._open:
            # Not past uvloop to the socket: os.write and send cost the same within the noise (50 and 900 idle sockets,
            # 400 bytes to 30 kB). Each call is a packet while nothing waits: who has several frames joins them.
            if self._held is None:
                self._transport.write(wire)
            else:
                self._held.append(wire)

    def close(self, code: int, reason: str = "") -> None:
        """
        Send a Close frame, and close the socket when the client has answered it or after LINGER_S.

        Args:
            code: One that may be sent in a frame.
            reason: Cut to 123 bytes of UTF-8.

        Raises:
            ValueError: If the code may not be sent.
        """
        if not self._open:
            return
        wire = close_frame(code, reason)
        self._write_close(wire, code)
        # The client's own Close is yet to be read.
        self._transport.resume_reading()
        self._linger()

    def abort(self) -> None:
        """Abort the connection at once; what is buffered is lost."""
        self._open = False
        if not self._lost:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading from the socket, so that TCP slows the client down; what was read before is still delivered."""
        if self._open:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        if self._open:
            self._transport.resume_reading()

    # For the connection

    def _write_close(self, wire: bytes, code: int) -> None:
        """Send the one Close frame; nothing is sent after it (RFC 6455 §5.5.1)."""
        self._open = False
        self._code = code
        if self._held is None:
            self._transport.write(wire)
        else:
            self._held.append(wire)

    def _hold(self, head: bytes) -> None:
        """Hold back the answer to the handshake, so that it leaves in one packet with what the peer writes at once."""
        self._held = [head]

    def _release(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, None
        if held is not None:
            self._transport.write(b"".join(held))

    def _linger(self) -> None:
        """Abort the connection in LINGER_S, unless it is closed by then."""
        if self._lingering is None and not self._lost:
            self._lingering = self._loop.call_later(LINGER_S, self._transport.abort)

    def _lose(self) -> None:
        """Never use the transport again: it is closed."""
        self._open = False
        self._lost = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
