"""Filter for the WebSocket library's log, so that no token is logged."""

from __future__ import annotations

import logging


class NoTokens(logging.Filter):
    """Keeps tokens out of websockets' own log: the header of the handshake, and the frame that carries a newer one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line may be written."""
        args = record.args
        what = str(args[0]) if isinstance(args, tuple) and args else ""
        return what.lower() != "authorization" and '"authenticate"' not in what


websocket_log = logging.getLogger("orbital.client.websocket")
websocket_log.addFilter(NoTokens())
